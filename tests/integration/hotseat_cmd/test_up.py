"""`hotseat up` as a person meets it: everything real, only the models are tiny."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from hotseat.demo.tiny_gguf import write_tiny_gguf
from tests.fakes.terminal import Terminal

pytestmark = [pytest.mark.redis, pytest.mark.slow]

PATIENCE_S = 60.0
GAVE_BACK = re.compile(r"(ada|ben|cleo) +gives (\S+) back \(turn \d+\): \S")


def eventually(question: Callable[[], object], what: str, within_s: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + within_s
    while not question():
        assert time.monotonic() < deadline, f"{what} did not happen within {within_s} s"
        time.sleep(0.05)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def processes_naming(text: str) -> dict[int, str]:
    """Command lines, by process id, of all living processes that mention the text."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if text in command and int(folder.name) != os.getpid():
            found[int(folder.name)] = command
    return found


class Up:
    """One `hotseat up` and the folders it works in."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.port = free_port()
        self.log = home / "up.log"
        self.process: subprocess.Popen[bytes] | None = None
        models = home / "models"
        models.mkdir()
        for seed, name in enumerate(("gemma-3-270m-q4_k_m", "gemma-3-270m-f16")):
            write_tiny_gguf(models / f"{name}.gguf", name=name, seed=seed)

    def argv(self, *arguments: str) -> list[str]:
        folders = ["--state-dir", str(self.home / "state"), "--models-dir", str(self.home / "models")]
        return [sys.executable, "-m", "hotseat", "up", *folders, "--port", str(self.port), "--think", "0.3", *arguments]

    def start(self, *arguments: str) -> None:
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(self.argv(*arguments), stdout=output, stderr=output)

    def shown(self) -> str:
        text = self.log.read_text()
        assert self.process is not None
        assert self.process.poll() in {None, 0, -signal.SIGKILL}, text
        return text

    def wait(self, timeout_s: float = 120) -> int:
        assert self.process is not None
        return self.process.wait(timeout_s)

    def children(self, part: str) -> list[int]:
        """Process ids of a part; the guardian of the model servers and the servers are named after the state folder."""
        return [pid for pid, command in processes_naming(str(self.home)).items() if part in command]

    def kill(self, part: str) -> None:
        (pid,) = self.children(part)
        os.kill(pid, signal.SIGKILL)


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    scene = Up(tmp_path)
    yield scene
    if scene.process is not None and scene.process.poll() is None:
        scene.process.terminate()
        scene.process.wait(60)
    eventually(lambda: not processes_naming(str(tmp_path)), "the end of every process")


def test_three_agents_are_served_in_turn_on_both_models(up: Up) -> None:
    up.start("--turns", "2")
    assert up.wait() == 0, up.shown()
    turns = GAVE_BACK.findall(up.shown())
    assert sorted(name for name, _ in turns) == ["ada", "ada", "ben", "ben", "cleo", "cleo"]
    assert {model for _, model in turns} == {"gemma-270m", "gemma-270m-f16"}
    assert not processes_naming(str(up.home))


def test_ctrl_c_leaves_no_process_and_no_port(up: Up) -> None:
    up.start()
    eventually(lambda: GAVE_BACK.search(up.shown()), "a first turn")
    assert up.process is not None
    up.process.send_signal(signal.SIGINT)
    assert up.wait() == 0, up.shown()
    assert not processes_naming(str(up.home))
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", up.port)) != 0


def test_second_start_finds_its_state_again(up: Up) -> None:
    url = f"http://127.0.0.1:{up.port}"
    up.start("--no-demo")
    eventually(lambda: "Ctrl-C stops everything" in up.shown(), "the start")
    body = {"sessionKey": "kept", "model": "gemma-270m", "ttlSeconds": 60, "wait": 60}
    lease = httpx.post(f"{url}/lease", json=body, timeout=90).json()
    assert lease["state"] == "active"
    httpx.post(f"{url}/release", json={"leaseId": lease["leaseId"], "nonce": lease["nonce"]}).raise_for_status()
    assert up.process is not None
    up.process.terminate()
    assert up.wait() == 0

    up.start("--no-demo")
    eventually(lambda: "Ctrl-C stops everything" in up.shown(), "the second start")
    again = httpx.get(f"{url}/lease/{lease['leaseId']}").json()
    assert (again["state"], again["reason"]) == ("ended", "released")


def test_nothing_outlives_a_launcher_killed_by_9(up: Up) -> None:
    up.start()
    eventually(lambda: GAVE_BACK.search(up.shown()), "a first turn")
    assert up.process is not None
    up.process.kill()
    up.wait()
    eventually(lambda: not processes_naming(str(up.home)), "the end of every process")


@pytest.mark.parametrize("part", ["valkey-server", "hotseat broker", "hotseat worker"])
def test_killing_a_part_fails_nobody(up: Up, part: str) -> None:
    up.start("--turns", "4")
    eventually(lambda: GAVE_BACK.search(up.shown()), "a first turn")
    up.kill(part)
    assert up.wait() == 0, up.shown()
    assert "starting it again" in up.shown()
    assert len(GAVE_BACK.findall(up.shown())) == 12


def test_taken_port_is_named(up: Up) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", up.port))
        taken.listen()
        refused = subprocess.run(up.argv(), capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert f"port {up.port} is taken" in refused.stderr


def test_second_launcher_on_the_same_state_is_refused(up: Up) -> None:
    up.start("--no-demo")
    eventually((up.home / "state" / "hotseat.toml").exists, "the start")
    up.port = free_port()
    refused = subprocess.run(up.argv(), capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert "another `hotseat up`" in refused.stderr


@pytest.mark.parametrize("words, begun", [(["--no-demo"], b"Ctrl-C stops everything"), ([], b"has gemma")])
def test_a_terminal_that_closes_stops_everything_in_order(up: Up, words: list[str], begun: bytes) -> None:
    terminal = Terminal()
    up.process = terminal.start(*up.argv(*words))
    terminal.until(begun, PATIENCE_S)
    eventually(lambda: "worker_started" in (up.home / "state" / "worker.log").read_text(), "the worker")
    terminal.close()
    assert up.wait(60) == 0
    assert not processes_naming(str(up.home))
    assert "worker_stopped" in (up.home / "state" / "worker.log").read_text()
    assert "User requested shutdown" in (up.home / "state" / "store" / "valkey.log").read_text()


def test_nohup_keeps_it_up(up: Up) -> None:
    with up.log.open("wb") as output:
        ignoring = ["env", "--ignore-signal=HUP"]
        up.process = subprocess.Popen([*ignoring, *up.argv("--no-demo")], stdout=output, stderr=output)
    eventually(lambda: "Ctrl-C stops everything" in up.shown(), "the start")
    up.process.send_signal(signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        up.process.wait(2)
    up.process.terminate()
    assert up.wait() == 0
