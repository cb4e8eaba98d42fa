"""llama-server's own router: one address, a directory of models, at most one of them loaded.

``xllamacpp``, which serves models everywhere else here, carries that code switched off ("xllamacpp disabled the router
server feature"), so this needs the program itself: one that is named, or ``llama-server`` on the PATH.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx

from harness.cluster.cluster import free_ports

START_S = 20.0


class RouterMissingError(Exception):
    """There is no llama-server here that knows how to route; the message says what was tried."""


def server_argv(given: str | None) -> list[str]:
    """The llama-server program.

    Args:
        given: Its path; None: look for it.

    Raises:
        RouterMissingError: There is none, or it has no router.
    """
    program = given or shutil.which("llama-server")
    if program is None:
        raise RouterMissingError("no llama-server on the PATH; name one with --llama-server")
    try:
        shown = subprocess.run([program, "--help"], capture_output=True, text=True, timeout=30, check=False)
    except OSError as error:
        raise RouterMissingError(f"{program}: {error}") from None
    if "--models-max" not in shown.stdout + shown.stderr:
        raise RouterMissingError(f"{program} has no router (it knows no --models-max)")
    return [program]


@contextlib.contextmanager
def router(argv: Sequence[str], files: Sequence[Path], *, flags: Sequence[str]) -> Iterator[str]:
    """A router over some model files, named like them; yields the address of its ``/v1``.

    Raises:
        RouterMissingError: It does not come up, or cannot load a model here.
    """
    folder = Path(tempfile.mkdtemp(prefix="hotseat-router-"))
    (folder / "models").mkdir()
    for file in files:
        (folder / "models" / file.name).symlink_to(file)
    (port,) = free_ports(1)
    command = [*argv, "--models-dir", str(folder / "models"), "--models-max", "1"]
    command += ["--host", "127.0.0.1", "--port", str(port), *flags]
    log = folder / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, start_new_session=True)
    try:
        url = f"http://127.0.0.1:{port}"
        _until_up(url, process, log)
        yield f"{url}/v1"
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _until_up(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    until_s = time.monotonic() + START_S
    with httpx.Client(timeout=2.0, trust_env=False) as client:
        while time.monotonic() < until_s and process.poll() is None:
            with contextlib.suppress(httpx.HTTPError):
                if client.get(f"{url}/models").status_code == 200:
                    return
            time.sleep(0.05)
    raise RouterMissingError(f"the router did not come up: {log.read_text(errors='replace')[-500:]}")
