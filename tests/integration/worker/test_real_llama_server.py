"""The worker with a real llama.cpp server and small random models: load, speak, swap, adopt."""

import json
import os
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from broker.answers.watcher import Watcher
from broker.gateway.trust.canary import Finding, finding_of, questions_for
from tests.integration.worker.conftest import ROOT, eventually

llama = pytest.importorskip("hotseat.llama_server")
gguf = pytest.importorskip("hotseat.demo.tiny_gguf")
pytest.importorskip("gguf")

pytestmark = pytest.mark.redis


@pytest.fixture
def real(workplace, tmp_path):
    try:
        program = llama.llama_server_argv()
    except llama.LlamaServerMissingError as error:
        pytest.skip(str(error))
    for seed, name in enumerate(("a", "b")):
        path = gguf.write_tiny_gguf(tmp_path / f"{name}.gguf", name=name, seed=seed)
        flags = ["-m", "{model_path}", "--alias", "{served_name}", "-c", "512", "-t", "1"]
        flags += ["--host", "{host}", "--port", "{port}", "--api-key-file", "{api_key_file}"]
        entry = {"name": name, "memory_mib": 600, "command": [*program, *flags], "model_path": str(path)}
        workplace.models.append(entry | {"env": {"PYTHONPATH": str(ROOT)}})
    return workplace


def speak(report, model, key, tokens=5):
    body = {"model": model, "prompt": "hello", "max_tokens": tokens}
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    url = report[f"url:{model}"] + "/completions"
    request = urllib.request.Request(url, data=json.dumps(body).encode(), headers=headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def test_a_real_server_is_loaded_speaks_and_is_swapped(real, hand):
    real.start()
    hand.register()
    for model in ("a", "b", "a"):
        hand.load(model)
        report = hand.until(model, "ready", 60)
        answer = speak(report, model, hand.wants[model][1])
        assert answer["usage"]["completion_tokens"] == 5
        assert answer["choices"][0]["text"].strip()
    hand.load()
    hand.until_absent("a")
    assert real.server_pids() == set()


def test_a_real_server_serves_on_while_its_worker_is_killed_and_is_adopted(real, hand):
    process = real.start()
    hand.register()
    hand.load("a")
    report = hand.until("a", "ready", 60)
    pids = real.server_pids()
    process.kill()
    process.wait(60)
    assert speak(report, "a", hand.wants["a"][1])["usage"]["completion_tokens"] == 5
    real.start()
    adopted = hand.register(not_boot=hand.boot)
    assert (adopted["state:a"], adopted["url:a"]) == ("ready", report["url:a"])
    assert real.server_pids() == pids
    hand.load("b")
    hand.until("b", "ready", 60)
    hand.until_absent("a")


def test_a_real_reranker_is_ready_when_it_has_ranked_and_answers_its_canary(real, hand):
    ranker, chatty = ({**real.models[0], "name": name, "kind": "rerank"} for name in ("ranker", "chatty"))
    ranker["command"] = [*ranker["command"], "--reranking"]
    real.models += [ranker, chatty]
    real.start()
    hand.register()
    hand.load("ranker")
    report = hand.until("ranker", "ready", 60)
    key = {"Authorization": f"Bearer {hand.wants['ranker'][1]}"}
    for question in questions_for("rerank", "ranker", names=("ranker",)):
        headers = {**key, "Content-Type": question.content_type.decode()}
        request = urllib.request.Request(report["url:ranker"] + question.path, data=question.body, headers=headers)
        watcher = Watcher(question.expected)
        with urllib.request.urlopen(request, timeout=30) as answer:
            watcher.begin(answer.status, [(b"content-type", b"application/json")], 0.0)
            watcher.feed(answer.read(), 1.0)
        assert finding_of(200, b"", watcher.end(2.0), question.expected) is Finding.PASSED
    hand.load("chatty")
    assert hand.until("chatty", "failed", 60)["error:chatty"].startswith("no_ranking: status 501")


def test_a_server_behind_a_script_takes_its_key_from_its_environment(real, hand, tmp_path):
    """What ``hotseat import`` makes of ``bash ./serve.sh ${PORT}``."""
    words = " ".join(f"'{word}'" for word in llama.llama_server_argv())
    script = tmp_path / "serve.sh"
    script.write_text(f'exec {words} -m {tmp_path}/a.gguf --alias scripted -c 512 -t 1 --port "$1"\n')
    env = {"PYTHONPATH": str(ROOT), "LLAMA_API_KEY": "{api_key}", "UNTOUCHED": '{"a": {b}}'}
    command = ["bash", str(script), "{port}"]
    real.models.append({"name": "scripted", "memory_mib": 600, "command": command, "env": env})
    real.start()
    hand.register()
    hand.load("scripted")
    report = hand.until("scripted", "ready", 60)
    key = hand.wants["scripted"][1]
    with pytest.raises(urllib.error.HTTPError) as refusal:
        speak(report, "scripted", "another key")
    refusal.value.close()
    assert refusal.value.code == 401
    assert speak(report, "scripted", key)["usage"]["completion_tokens"] == 5
    (pid,) = real.server_pids()
    assert key.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes()
    assert b'UNTOUCHED={"a": {b}}' in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    assert key not in real.log()


def test_a_broken_model_file_fails_with_the_servers_own_words(real, hand, tmp_path):
    (tmp_path / "a.gguf").write_bytes(b"GGUF but not really")
    real.start()
    hand.register()
    hand.load("a")
    error = hand.until("a", "failed", 60)["error:a"]
    assert error.startswith("server_died: exited with status 1")
    assert "gguf" in error.lower()
    hand.load("b")
    hand.until("b", "ready", 60)


def test_a_real_server_killed_mid_answer_is_reported(real, hand):
    real.start()
    hand.register()
    hand.load("a")
    hand.until("a", "ready", 60)
    os.kill(real.identity(hand.generation)["pid"], 9)
    assert hand.until("a", "failed", 5)["error:a"].startswith("server_died: killed by SIGKILL")
    eventually(lambda: not real.server_pids(), what="nothing left")
