"""``hotseat broker`` as a real process on a real server."""

import atexit
import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx

MODELS = """
[[model]]
name = "a"
memory_mib = 900
lease_limit = 2

[[model]]
name = "b"
memory_mib = 900
lease_limit = 1
"""

START_LIMIT_S = 60

HAND_OVER = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""
"""What a service manager does with a socket it listens on (sd_listen_fds(3))."""


class BrokerProcess:
    """One process; its port is read from its log, or is that of a socket handed over, as service managers do it."""

    def __init__(
        self,
        store_url: str,
        *,
        extra: str = "",
        models: str = MODELS,
        cwd: Path | None = None,
        port: int = 0,
        listener: socket.socket | None = None,
        files: int | None = None,
    ) -> None:
        """``files``: as many may be open at once."""
        self._listener = listener
        self._limits = [] if files is None else ["sh", "-c", f'ulimit -n {files} && exec "$0" "$@"']
        port = port if listener is None else listener.getsockname()[1]
        self.folder = Path(tempfile.mkdtemp(prefix="hotseat-broker-"))
        atexit.register(shutil.rmtree, self.folder, ignore_errors=True)  # its log may be read after its end
        config = self.folder / "hotseat.toml"
        config.write_text(
            f'[store]\nurl = "{store_url}"\n\n[broker]\nport = {port}\nanonymous = true\n{extra}\n{models}'
        )
        self.log = self.folder / "log"
        environ = {name: value for name, value in os.environ.items() if not name.startswith("HOTSEAT_")}
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [*self._limits, *self._hand_over(), "-m", "broker.cli", "--config", str(config)],
                stderr=log,
                stdout=log,
                env=environ,
                cwd=cwd or Path(__file__).parents[1],
                pass_fds=() if listener is None else (listener.fileno(),),
            )
        self.url = self._listening()

    @property
    def pid(self) -> int:
        return self._process.pid

    def _hand_over(self) -> list[str]:
        if self._listener is None:
            return [sys.executable]
        return [sys.executable, "-c", HAND_OVER, str(self._listener.fileno())]

    def _listening(self) -> str:
        if self._listener is not None:
            return f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        deadline_s = time.monotonic() + START_LIMIT_S
        while time.monotonic() < deadline_s:
            found = re.search(r"running on (http://[0-9.:]+)", self.log.read_text())
            if found:
                return found[1]
            assert self._process.poll() is None, self.log.read_text()
            time.sleep(0.02)
        raise AssertionError(self.log.read_text())

    def until_ready(self) -> "BrokerProcess":
        deadline_s = time.monotonic() + START_LIMIT_S
        while time.monotonic() < deadline_s:
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{self.url}/readyz").status_code == 200:
                    return self
            time.sleep(0.05)
        raise AssertionError(self.log.read_text())

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def stop(self) -> int:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
