"""What is on the GPU while nobody waits, on real servers: store, broker, worker and model servers as processes."""

import contextlib
import importlib.util
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import redis

from harness.broker_process import BrokerProcess
from harness.redis_servers import VALKEY, RedisServer
from harness.stack import ROOT, Build, Stack, model_toml, until_open
from hotseat.llama_server import llama_server_argv
from schemas.messages import base_key

pytestmark = [pytest.mark.slow, pytest.mark.redis, pytest.mark.timeout(300)]
TURNS = 8
needs_llama = pytest.mark.skipif(importlib.util.find_spec("xllamacpp") is None, reason="needs hotseat[demo]")


def fake_toml(name: str, load_s: float, *entries: str) -> str:
    """A model whose server takes so long to load."""
    command = [sys.executable, f"{ROOT}/tests/fakes/model_server.py", "--host", "{host}", "--port", "{port}"]
    command += ["--api-key-file", "{api_key_file}", "--alias", "{served_name}", "--load-delay", str(load_s)]
    lines = [f'name = "{name}"', "memory_mib = 600", f"command = {json.dumps(command)}", *entries]
    return "[[model]]\n" + "\n".join(lines) + "\n"


@contextlib.contextmanager
def stack_of(catalogue: str, extra: str = "") -> Iterator[Stack]:
    """One slot on which one of the models fits."""
    folder = Path(tempfile.mkdtemp(prefix="hotseat-residence-"))
    with contextlib.ExitStack() as ends:
        ends.callback(shutil.rmtree, folder, ignore_errors=True)
        store = RedisServer(VALKEY, aof=True).start()
        ends.callback(store.close)
        broker = BrokerProcess(store.url, extra=extra, models=catalogue)
        ends.callback(broker.stop)
        stack = Stack(folder, broker.until_ready(), store, catalogue=catalogue)
        stack.start_worker()
        ends.callback(stack.stop_worker)
        until_open(stack)
        yield stack


def events(stack: Stack, *kinds: str) -> list[dict[str, str]]:
    with redis.from_url(stack.store.url, decode_responses=True) as client:
        found = [fields for _, fields in client.xrange(f"{base_key('default')}:events")]
    return [fields for fields in found if fields["type"] in kinds]


def loads(stack: Stack) -> list[tuple[str, str]]:
    return [(event["model"], event["why"]) for event in events(stack, "loading")]


def ask(stack: Stack, model: str, session: str | None) -> float:
    """One request of somebody; seconds until its answer."""
    headers = {"x-hotseat-session": session} if session else {}
    body = {"model": model, "prompt": "ba de fi", "max_tokens": 4}
    began_s = time.monotonic()
    answer = httpx.post(f"{stack.v1}/completions", json=body, headers=headers, timeout=120)
    answer.raise_for_status()
    return time.monotonic() - began_s


def ready_models(stack: Stack) -> list[str]:
    return [m["name"] for m in httpx.get(f"{stack.url}/models").json()["models"] if m["state"] == "ready"]


def until_ready(stack: Stack, model: str, within_s: float) -> float:
    """Seconds until a model is ready."""
    began_s = time.monotonic()
    while model not in ready_models(stack):
        assert time.monotonic() - began_s < within_s, f"{model} did not come; {ready_models(stack)} is there"
        time.sleep(0.05)
    return time.monotonic() - began_s


@pytest.mark.parametrize("session", ["agent", None])
def test_a_lone_agent_never_reloads_between_turns(session: str | None) -> None:
    """Some other request's model takes 15 s to load, the agent's 4 s; two seconds between its turns."""
    with stack_of(fake_toml("slow", 15.0) + fake_toml("fast", 4.0)) as stack:
        ask(stack, "slow", "one-off")
        waits_s = []
        for _ in range(TURNS):
            waits_s.append(ask(stack, "fast", session))
            time.sleep(2.0)
        assert loads(stack) == [("slow", "waiters"), ("fast", "waiters")]
        assert max(waits_s[1:]) < 4.0, "a reload takes longer"


@needs_llama
def test_a_lone_agent_never_reloads_between_turns_on_real_llama_servers(tmp_path: Path) -> None:
    """Their small files load in half a second: each is held up first, as by a slow disk."""
    catalogue = ""
    for name, held_up_s in (("a", 8), ("b", 2)):
        slow_disk = ("sh", "-c", f'sleep {held_up_s}; exec "$@"', "server")
        catalogue += model_toml(tmp_path, name, build=Build(server=(*slow_disk, *llama_server_argv())))
    with stack_of(catalogue) as stack:
        ask(stack, "a", "one-off")
        for _ in range(TURNS):
            ask(stack, "b", "agent")
            time.sleep(2.0)
        assert loads(stack) == [("a", "waiters"), ("b", "waiters")]


def test_the_default_is_there_at_the_start_comes_back_and_people_are_told_why() -> None:
    catalogue = fake_toml("8b", 1.0, "default = true") + fake_toml("32b", 2.0)
    with stack_of(catalogue, extra="[policy]\nidle_restore_s = 4\n") as stack:
        until_ready(stack, "8b", 15.0)
        for _ in range(3):
            ask(stack, "32b", "talk")
            time.sleep(1.0)
        assert ready_models(stack) == ["32b"]
        assert 2.0 < until_ready(stack, "8b", 20.0) + 1.0 < 12.0
        time.sleep(8.0)
        assert loads(stack) == [("8b", "restore"), ("32b", "waiters"), ("8b", "restore")]
        gone = [(e["model"], e["why"], e["for"]) for e in events(stack, "unloading")]
        assert gone == [("8b", "waiters", "32b"), ("32b", "restore", "8b")]
        told = ps(stack)
        assert "8b" in told
        assert "ready, there while nobody is active" in told
        assert "32b: went from gpu0" in told
        assert "for 8b, which is to be there while nobody is active" in told


def ps(stack: Stack) -> str:
    argv = [sys.executable, "-m", "hotseat", "ps", "--url", stack.url]
    return subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True, timeout=30).stdout


def test_a_pinned_model_stays_and_what_does_not_fit_beside_it_is_refused_at_once() -> None:
    with stack_of(fake_toml("hot", 0.5, "pinned = true") + fake_toml("cold", 0.5)) as stack:
        until_ready(stack, "hot", 15.0)
        body = {"model": "cold", "prompt": "x", "max_tokens": 1}
        answer = httpx.post(f"{stack.v1}/completions", json=body, timeout=20)
        assert 400 <= answer.status_code < 600
        assert "beside what is pinned there" in answer.text
        ask(stack, "hot", "anyone")
        assert loads(stack) == [("hot", "pinned")]


def test_a_warm_lease_beats_release_vram() -> None:
    with stack_of(fake_toml("a", 0.5, "release_vram_after_s = 2")) as stack:
        ask(stack, "a", "talk")
        warm = {"sessionKey": "talk", "model": "a", "intent": "warm", "ttlSeconds": 60}
        lease = httpx.post(f"{stack.url}/lease", json=warm).raise_for_status().json()
        time.sleep(5.0)
        assert ready_models(stack) == ["a"]
        release = {"leaseId": lease["leaseId"], "nonce": lease["nonce"]}
        httpx.post(f"{stack.url}/release", json=release).raise_for_status()
        deadline_s = time.monotonic() + 15.0
        while ready_models(stack):
            assert time.monotonic() < deadline_s
            time.sleep(0.1)
        assert [e["why"] for e in events(stack, "unloading")] == ["release_vram"]
