"""The fake model server as a process of its own."""

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx

SERVER = Path(__file__).parent / "model_server.py"


@contextlib.contextmanager
def model_process(*flags: str, alias: str = "m") -> Iterator[str]:
    """Address of one with these faults."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen([sys.executable, str(SERVER), "--port", str(port), "--alias", alias, *flags])
    url = f"http://127.0.0.1:{port}"
    try:
        deadline_s = time.monotonic() + 30
        while True:
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{url}/health").status_code == 200:
                    break
            assert time.monotonic() < deadline_s
            time.sleep(0.02)
        yield url
    finally:
        process.kill()
        process.wait()
