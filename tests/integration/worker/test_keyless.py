"""Servers that know no keys, behind a door; and those that take theirs in other ways than a file."""

import json
import os
import signal
import socket
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from gpu_worker.host import procfs
from tests.integration.worker.conftest import ROOT, eventually

pytestmark = pytest.mark.redis


def keyless(workplace, name="a", *flags, **entry):
    """A server that takes every request, and writes down what credentials it saw."""
    workplace.fake(name, *flags, **({"key": "none"} | entry))
    command = workplace.models[-1]["command"]
    workplace.models[-1]["command"] = [word for word in command if word not in {"--api-key-file", "{api_key_file}"}]
    return workplace


def ready(workplace, hand, model="a"):
    process = workplace.start()
    hand.register()
    hand.load(model)
    return process, hand.until(model, "ready")


def answer_of(url, key=None, path="/models", body=None):
    """Status and body."""
    headers = {"Content-Type": "application/json"} | ({} if key is None else {"Authorization": f"Bearer {key}"})
    data = None if body is None else json.dumps(body).encode()
    try:
        answer = urllib.request.urlopen(urllib.request.Request(url + path, data=data, headers=headers), timeout=30)
    except urllib.error.HTTPError as refusal:
        answer = refusal
    with answer:
        return answer.status, answer.read()


def status_of(url, key=None):
    return answer_of(url, key)[0]


def kill(process):
    process.kill()
    process.wait(60)


def test_only_the_bearer_of_the_loads_key_is_let_in_and_the_server_never_sees_it(workplace, hand, tmp_path):
    keyless(workplace, "a", "--key-log", str(tmp_path / "seen"))
    process, report = ready(workplace, hand)
    url, key = report["url:a"], hand.wants["a"][1]
    assert [status_of(url, one) for one in (key, None, "another", key + "x")] == [200, 401, 401, 401]
    seen = (tmp_path / "seen").read_text()
    assert "/v1/models -" in seen
    assert key not in seen
    identity = workplace.identity(hand.generation)
    assert workplace.server_pids() == {identity["pid"], identity["door_pid"]}
    for pid in workplace.server_pids():
        for file in ("cmdline", "environ"):
            assert key.encode() not in Path(f"/proc/{pid}/{file}").read_bytes()
    assert key not in workplace.log()
    process.terminate()
    process.wait(60)


def test_a_key_of_an_older_load_opens_no_newer_door(workplace, hand):
    keyless(workplace).fake("b")
    _, report = ready(workplace, hand)
    old = hand.wants["a"][1]
    assert status_of(report["url:a"], old) == 200
    hand.load("b")
    hand.until("b", "ready")
    hand.until_absent("a")
    hand.load("a")
    report = hand.until("a", "ready")
    assert (status_of(report["url:a"], old), status_of(report["url:a"], hand.wants["a"][1])) == (401, 200)


def test_who_finds_the_door_dead_finds_the_server_ended_and_told(workplace, hand):
    keyless(workplace, "a", "--ignore-sigterm", "--fork-daemon")
    ready(workplace, hand)
    os.kill(workplace.identity(hand.generation)["door_pid"], signal.SIGKILL)
    report = hand.until("a", "failed", 10)
    assert report["error:a"].startswith("server_died: its door died: killed by SIGKILL")
    eventually(lambda: not workplace.server_pids(), 10, "the end of the server and its child")


def test_a_dead_server_takes_its_door_along(workplace, hand):
    keyless(workplace)
    _, report = ready(workplace, hand)
    identity = workplace.identity(hand.generation)
    os.kill(identity["pid"], signal.SIGKILL)
    assert hand.until("a", "failed", 10)["error:a"].startswith("server_died: killed by SIGKILL")
    eventually(lambda: not workplace.server_pids(), 10, "the end of the door")
    with pytest.raises(urllib.error.URLError, match="refused"):
        status_of(report["url:a"], "any")


def test_a_killed_guardian_leaves_neither(workplace, hand):
    keyless(workplace)
    ready(workplace, hand)
    os.kill(workplace.identity(hand.generation)["guardian_pid"], signal.SIGKILL)
    hand.until("a", "failed", 10)
    eventually(lambda: not workplace.server_pids(), 10, "the end of both")


def test_the_next_worker_adopts_both_and_knows_both_dead(workplace, hand):
    keyless(workplace)
    process, report = ready(workplace, hand)
    pids, key = workplace.server_pids(), hand.wants["a"][1]
    kill(process)
    assert status_of(report["url:a"], key) == 200
    workplace.start()
    adopted = hand.register(not_boot=hand.boot)
    assert (adopted["state:a"], adopted["url:a"]) == ("ready", report["url:a"])
    assert workplace.server_pids() == pids
    os.kill(workplace.identity(hand.generation - 1)["door_pid"], signal.SIGKILL)
    assert "its door died" in hand.until("a", "failed", 10)["error:a"]
    eventually(lambda: not workplace.server_pids(), 10, "the end of both")


def test_another_way_to_take_the_key_is_another_server(workplace, hand):
    """A door that was, and is not configured any more, is not adopted; nor the other way round."""
    keyless(workplace, "a", "--any-key")
    process, _ = ready(workplace, hand)
    pids = workplace.server_pids()
    kill(process)
    workplace.models[0]["key"] = "environment:SOME_KEY"
    process = workplace.start()
    assert "state:a" not in hand.register(not_boot=hand.boot)
    assert not pids & workplace.server_pids()
    hand.load("a")
    hand.until("a", "ready")
    assert len(workplace.server_pids()) == 1


@pytest.mark.parametrize("delay_s", [0.0, 0.02, 0.1])
def test_a_worker_killed_in_mid_start_leaves_both_or_neither_to_the_next(workplace, hand, delay_s):
    keyless(workplace, "a", "--load-delay", "0.1")
    process = workplace.start()
    hand.register()
    hand.load("a")
    time.sleep(delay_s)
    kill(process)
    workplace.start()
    report = hand.register(not_boot=hand.boot)
    assert len(workplace.server_pids()) == (2 if report.get("state:a") == "ready" else 0)
    hand.load("a")
    report = hand.until("a", "ready")
    assert status_of(report["url:a"], hand.wants["a"][1]) == 200
    assert len(workplace.server_pids()) == 2
    hand.load()
    hand.until_absent("a")
    assert not workplace.server_pids()


def test_a_server_that_can_be_reached_past_its_door_is_not_taken_for_ready(workplace, hand):
    keyless(workplace)
    command = workplace.models[0]["command"]
    command[command.index("{host}")] = "0.0.0.0"
    workplace.start()
    hand.register()
    hand.load("a")
    assert "past its door; let it listen on {host} only" in hand.until("a", "failed")["error:a"]
    assert not workplace.server_pids()


def test_a_model_that_ends_gracefully_behind_a_door_finishes_its_answer(workplace, hand):
    """SIGTERM goes to both; the door waits for its server."""
    keyless(workplace, "a", "--token-delay", "0.1", "--ignore-sigterm", stop_timeout_s=8.0)
    _, report = ready(workplace, hand)
    body = json.dumps({"model": "a", "prompt": "x", "max_tokens": 15, "stream": True}).encode()
    headers = {"Authorization": f"Bearer {hand.wants['a'][1]}"}
    request = urllib.request.Request(report["url:a"] + "/completions", data=body, headers=headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        answer.readline()
        hand.load()
        rest = answer.read()
    assert rest.endswith(b"data: [DONE]\n\n")


# ------------------------------------------------------------------------------------------ a real server, keyless
@pytest.fixture
def real(workplace, tmp_path):
    llama = pytest.importorskip("hotseat.llama_server")
    gguf = pytest.importorskip("hotseat.demo.tiny_gguf")
    pytest.importorskip("gguf")
    try:
        program = llama.llama_server_argv()
    except llama.LlamaServerMissingError as error:
        pytest.skip(str(error))
    path = gguf.write_tiny_gguf(tmp_path / "a.gguf", name="a", seed=1)

    def of(*flags, **entry):
        words = ["-m", "{model_path}", "--alias", "{served_name}", "-c", "512", "-t", "1", *flags]
        plain = {"name": "a", "memory_mib": 600, "command": [*program, *words], "model_path": str(path)}
        workplace.models.append(plain | {"env": {"PYTHONPATH": str(ROOT)}} | entry)
        return workplace

    return of


@pytest.mark.parametrize(
    "flags, key",
    [
        (("--host", "{host}", "--port", "{port}"), "none"),
        (("--host", "{socket}"), "none"),
        (("--host", "{host}", "--port", "{port}"), "environment:LLAMA_API_KEY"),
        (("--host", "{host}", "--port", "{port}", "--api-key", "{api_key}"), "argument"),
    ],
)
def test_a_real_llama_server_is_fenced_however_it_takes_its_key(real, hand, flags, key):
    workplace = real(*flags, key=key)
    workplace.start()
    hand.register()
    hand.load("a")
    report = hand.until("a", "ready", 60)
    url, bearer = report["url:a"], hand.wants["a"][1]
    body = {"model": "a", "prompt": "hello", "max_tokens": 5, "stream": True}
    status, said = answer_of(url, bearer, "/completions", body)
    assert (status, said.rstrip()[-6:]) == (200, b"[DONE]")
    assert answer_of(url, "another", "/completions", body)[0] == 401
    if "{socket}" in flags:
        identity = workplace.identity(hand.generation)
        inside = identity["note"]["inside"]["socket"]
        with socket.socket(socket.AF_UNIX) as direct:
            direct.connect(inside)
        folder = Path(inside).parent
        assert folder.stat().st_mode & 0o077 == 0
        assert procfs.is_same(identity["door_pid"], identity["door_pid_started"])
    hand.load()
    hand.until_absent("a")
    assert not workplace.server_pids()
