"""SIGHUP: a terminal that closed, or an operator who hopes for a reload. The log says that there is none."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.redis_servers import VALKEY, RedisServer

pytestmark = [pytest.mark.redis, pytest.mark.slow]

CONFIG = """
[store]
url = "{store}"
[broker]
port = {port}
anonymous = true
[worker]
state_dir = "{folder}/state"
[[worker.slot]]
id = "gpu0"
budget_mib = 100
[[model]]
name = "a"
memory_mib = 100
command = ["true", "{{port}}", "{{api_key_file}}"]
[poller]
state_dir = "{folder}/openclaw"
broker_url = "http://127.0.0.1:{port}"
period_s = 60
"""
PARTS = {
    "broker": (["broker", "--config", "hotseat.toml"], "running on"),
    "worker": (["worker", "--config", "hotseat.toml"], "worker_started"),
    "poller": (["poller", "--config", "hotseat.toml"], "poller_started"),
    "mcp": (["mcp", "--http", "{port}"], None),
}


@pytest.fixture
def store() -> Iterator[RedisServer]:
    server = RedisServer(VALKEY).start()
    yield server
    server.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def eventually(question: Callable[[], object], what: str) -> None:
    deadline_s = time.monotonic() + 30
    while not question():
        assert time.monotonic() < deadline_s, f"{what} did not come"
        time.sleep(0.02)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def has_started(log: Path, started: str | None, port: int) -> bool:
    return listens(port) if started is None else started in log.read_text()


@pytest.mark.parametrize("at_start", ["default", "ignore"])
@pytest.mark.parametrize("part", PARTS)
def test_a_daemon_ignores_hangups_and_says_so(store: RedisServer, tmp_path: Path, part: str, at_start: str):
    port = free_port()
    (tmp_path / "hotseat.toml").write_text(CONFIG.format(store=store.url, folder=tmp_path, port=port))
    words, started = PARTS[part]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("HOTSEAT_")}
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["env", f"--{at_start}-signal=HUP", sys.executable, "-m", "hotseat", *(w.format(port=port) for w in words)],
            stdout=output, stderr=output, cwd=tmp_path, env=environ,
        )  # fmt: skip
    try:
        eventually(lambda: process.poll() is not None or has_started(log, started, port), "the start")
        process.send_signal(signal.SIGHUP)
        eventually(lambda: "hangup_ignored" in log.read_text() or process.poll() is not None, "a word about it")
        assert process.poll() is None, log.read_text()
        assert "restart" in log.read_text()
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) in {0, -signal.SIGTERM}, log.read_text()
    finally:
        process.kill()
        process.wait()
