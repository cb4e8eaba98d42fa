"""Broker, worker and model servers as processes of their own: what a client hears of a model that cannot be there."""

import json
import os
import signal
import sys
import time

import httpx
import pytest

from harness.broker_process import BrokerProcess
from tests.integration.worker.conftest import ROOT, eventually

llama = pytest.importorskip("hotseat.llama_server")
gguf = pytest.importorskip("hotseat.demo.tiny_gguf")

pytestmark = pytest.mark.redis

CHAT, MESSAGES = "/v1/chat/completions", "/v1/messages"
AT_ONCE_S = 2.0
SLACK_S = 3.0
"""For a loaded machine."""


def body_of(model):
    return {"model": model, "max_tokens": 4, "messages": [{"role": "user", "content": "hi"}]}


class Pool:
    """A broker and a worker on one store, and a client."""

    def __init__(self, workplace):
        self.workplace, self.url = workplace, ""
        self._broker = None

    def start(self, gateway=""):
        known = ("name", "memory_mib", "driver", "served_name", "kind")
        tables = "".join(
            "[[model]]\n" + "".join(f"{key} = {json.dumps(one[key])}\n" for key in known if key in one)
            for one in self.workplace.models
        )
        extra = f"[gateway]\n{gateway}\n" if gateway else ""
        self._broker = BrokerProcess(self.workplace.store_url, extra=extra, models=tables)
        self.url = self._broker.until_ready().url
        self.worker = self.workplace.start()
        eventually(lambda: self.get("/status")["slots"], what="the worker registering")
        eventually(lambda: self.get("/status")["slots"][0]["state"] == "open", what="the slot opening")
        return self

    def get(self, path):
        return httpx.get(f"{self.url}{path}", timeout=10).json()

    def ask(self, model, path=CHAT):
        """One request; answers it and how long it took."""
        began_s = time.monotonic()
        answer = httpx.post(f"{self.url}{path}", json=body_of(model), timeout=60)
        return answer, time.monotonic() - began_s

    def failures(self):
        return {one["model"]: one for one in self.get("/status")["slots"][0]["failures"]}

    def server_pid(self):
        (pid,) = self.workplace.server_pids()
        return pid

    def end(self):
        if self._broker is not None:
            self._broker.stop()


@pytest.fixture
def pool(workplace):
    one = Pool(workplace)
    yield one
    one.end()


def real_model(workplace, tmp_path, *flags, name="a", seed=0):
    """A real llama-server with a small random model."""
    pytest.importorskip("gguf")
    try:
        program = llama.llama_server_argv()
    except llama.LlamaServerMissingError as error:
        pytest.skip(str(error))
    path = gguf.write_tiny_gguf(tmp_path / f"{name}.gguf", name=name, seed=seed)
    words = ["-m", "{model_path}", "--alias", "{served_name}", "-c", "512", "-t", "1", "--host", "{host}"]
    words += ["--port", "{port}", "--api-key-file", "{api_key_file}", *flags]
    entry = {"name": name, "memory_mib": 300, "command": [*program, *words], "model_path": str(path)}
    workplace.models.append(entry | {"env": {"PYTHONPATH": str(ROOT)}})
    return path


def shell(workplace, script, name="a", **entry):
    workplace.fake(name, **entry)
    workplace.models[-1]["command"] = ["sh", "-c", script, "{port}", "{api_key_file}"]


BROKEN = {
    "no program": (lambda w, _: w.models[0].update(command=["no-such-server", "{port}", "{api_key_file}"]),
                   "program not found: no-such-server"),
    "no file": (lambda w, _: w.models[0]["command"].extend(["-m", "/models/none.gguf"]),
                "no such file: /models/none.gguf"),
    "bad flag": (lambda w, _: w.models[0]["command"].append("--flash-atn"), "unrecognized arguments: --flash-atn"),
    "wrong name": (lambda w, _: w.models[0]["command"].extend(["--wrong-name", "other"]),
                   "wrong_model: the server offers other"),
    "no memory": (lambda w, _: w.models[0]["command"].extend(["--die-saying", "CUDA error: out of memory"]),
                  "CUDA error: out of memory"),
    "dies": (lambda w, _: w.models[0]["command"].extend(["--die-at-start", "3"]), "exited with status 3"),
}  # fmt: skip


@pytest.mark.parametrize("fault", BROKEN)
def test_a_model_that_cannot_load_is_refused_at_once_in_every_protocol(pool, workplace, tmp_path, fault):
    workplace.fake("a", memory_mib=300).fake("fine", memory_mib=300)
    breaks, words = BROKEN[fault]
    breaks(workplace, tmp_path)
    pool.start()
    first, took_s = pool.ask("a")
    assert took_s < AT_ONCE_S + SLACK_S
    for answer in (first, pool.ask("a")[0], pool.ask("a", MESSAGES)[0]):
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "load_failed")
        assert words in answer.json()["error"]["message"]
        assert 1 <= int(answer.headers["retry-after"]) <= 30
    lease = httpx.post(f"{pool.url}/lease", json={"sessionKey": "s", "model": "a"})
    assert (lease.status_code, words in lease.json()["detail"]) == (424, True)
    assert words in pool.failures()["a"]["error"]
    assert pool.ask("fine")[0].status_code == 200


def test_a_program_that_comes_is_found_and_the_model_served_without_anybody_doing_anything(pool, workplace, tmp_path):
    program = tmp_path / "serve"
    workplace.fake("a")
    workplace.models[0]["command"][0] = str(program)
    pool.start()
    assert pool.ask("a")[0].status_code == 503
    program.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    program.chmod(0o755)
    eventually(lambda: not pool.failures(), what="the program being seen")
    assert pool.ask("a")[0].status_code == 200


def test_a_file_that_was_mended_is_loaded_by_the_next_request(pool, workplace, tmp_path):
    path = real_model(workplace, tmp_path)
    good = path.read_bytes()
    path.write_bytes(b"GGUF but not really")
    pool.start()
    answer, took_s = pool.ask("a")
    assert answer.status_code == 503
    assert "gguf" in answer.json()["error"]["message"].lower(), answer.text
    assert took_s < 20
    path.write_bytes(good)
    eventually(lambda: not pool.failures(), what="the change being seen")
    assert pool.ask("a")[0].status_code == 200


def test_a_real_server_says_itself_which_flag_it_refuses(pool, workplace, tmp_path):
    real_model(workplace, tmp_path, "--flash-atn")
    pool.start()
    answer, took_s = pool.ask("a")
    assert took_s < AT_ONCE_S + SLACK_S
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "load_failed")
    assert "--flash-atn" in answer.json()["error"]["message"]


def test_a_restarted_worker_tries_again_at_once_with_the_entry_that_was_mended(pool, workplace):
    workplace.fake("a", "--die-at-start", "3")
    pool.start()
    for _ in range(2):
        assert pool.ask("a")[0].status_code == 503
    del workplace.models[0]["command"][-2:]
    pool.worker.terminate()
    pool.worker.wait(20)
    workplace.start()
    eventually(lambda: not pool.failures(), what="the new worker")
    assert pool.ask("a")[0].status_code == 200


def test_a_crash_of_a_ready_server_costs_one_reload(pool, workplace):
    workplace.fake("a")
    pool.start()
    assert pool.ask("a")[0].status_code == 200
    os.kill(pool.server_pid(), signal.SIGKILL)
    answer, took_s = pool.ask("a")
    assert answer.status_code == 200
    assert took_s < 30, "61 s before"


def test_a_load_that_fails_once_is_waited_through(pool, workplace, tmp_path):
    workplace.fake("a", "--die-first", str(tmp_path / "starts"), "1")
    pool.start()
    answer, took_s = pool.ask("a")
    assert (answer.status_code, took_s < 30) == (200, True)


def test_what_crashes_beside_an_idle_model_gets_its_room(pool, workplace, tmp_path):
    held = tmp_path / "held"
    workplace.fake("b", "--hold", str(held), memory_mib=300).fake("a", "--abort-beside", str(held), memory_mib=300)
    pool.start()
    assert pool.ask("b")[0].status_code == 200
    assert held.exists()
    answer, took_s = pool.ask("a")
    assert (answer.status_code, took_s < 30) == (200, True)
    assert not held.exists(), "b made room"


QUICK_TO_DOUBT = "sign_of_life_unknown_s = 1.0\nsign_of_life_s = 1.0"


def test_a_real_server_that_stands_still_is_restarted_and_the_request_answered(pool, workplace, tmp_path):
    real_model(workplace, tmp_path)
    workplace.worker = {"prove_timeout_s": 1.0}
    pool.start(QUICK_TO_DOUBT)
    assert pool.ask("a")[0].status_code == 200
    before = pool.server_pid()
    os.kill(before, signal.SIGSTOP)
    answer, took_s = pool.ask("a")
    assert answer.status_code == 200
    assert pool.server_pid() != before
    assert took_s < 30, "900 s before"
    assert "server_useless: no token within 1 s" in workplace.log()


def test_a_server_that_hangs_again_after_its_restart_is_given_up_with_the_reason(pool, workplace):
    workplace.fake("a", "--mute-after", "1")
    workplace.worker = {"prove_timeout_s": 2.0}
    pool.start(QUICK_TO_DOUBT)
    answer, took_s = pool.ask("a")
    assert answer.status_code == 502
    assert answer.json()["error"]["code"] in {"lease_lost", "upstream_broken"}, "whichever is heard of first"
    assert took_s < 60
    answer, took_s = pool.ask("a")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "model_quarantined")
    assert "no token within 2 s, and its processes did nothing" in answer.json()["error"]["message"]
    assert took_s < AT_ONCE_S + SLACK_S


def test_a_server_that_answers_out_of_memory_to_everything_does_not_stay_ready(pool, workplace):
    workplace.fake("a", "--broken-after", "1", "CUDA error: out of memory")
    pool.start()
    assert pool.ask("a")[0].status_code == 500

    def given_up():
        answer, _ = pool.ask("a")
        return answer.status_code == 503 and "CUDA error: out of memory" in json.dumps(answer.json())

    eventually(given_up, what="giving it up")


def test_a_model_that_was_never_loaded_is_reckoned_by_its_files_and_then_by_its_loads(pool, tmp_path):
    path = tmp_path / "big.gguf"
    with path.open("wb") as file:
        file.truncate(2**40)
    pool.workplace.fake("big", "--model", str(path)).fake("plain")
    pool.start()

    def load_seconds():
        return {one["name"]: one["loadSeconds"] for one in pool.get("/models")["models"]}

    told = eventually(lambda: (m := load_seconds())["big"] != 15.0 and m, what="the prior reaching the broker")
    assert 2**40 / 2e9 <= told["big"] <= 21_600
    assert told["plain"] == 15.0
    assert pool.ask("big")[0].status_code == 200
    eventually(lambda: load_seconds()["big"] < 60, what="its own load counting, once the broker's picture shows it")
