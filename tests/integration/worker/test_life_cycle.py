"""A worker process carries out orders with model servers that behave and that do not."""

import json
import os
import urllib.request
from pathlib import Path
from urllib.error import HTTPError

import pytest

from tests.integration.worker.conftest import eventually

pytestmark = pytest.mark.redis


def get(url, key):
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {key}"})
    with urllib.request.urlopen(request, timeout=5) as answer:
        return json.load(answer)


def test_an_ordered_model_becomes_ready_and_is_gone_when_no_longer_wanted(workplace, hand):
    workplace.fake("a")
    workplace.start()
    hand.register()
    hand.load("a")
    report = hand.until("a", "ready")
    assert report["gen:a"] == str(hand.generation)
    assert report["progress:a"] == "100"
    assert int(report["took_ms:a"]) > 0
    assert report["serves"] == "a"
    assert get(report["url:a"] + "/models", f"key-a-{hand.generation}")["data"][0]["id"] == "a"
    assert len(workplace.server_pids()) == 1
    hand.load()
    hand.until_absent("a")
    assert workplace.server_pids() == set()


def test_each_load_has_its_own_key_and_the_old_one_no_longer_opens(workplace, hand):
    workplace.fake("a").fake("b")
    workplace.start()
    hand.register()
    hand.load("a")
    old_key = hand.wants["a"][1]
    hand.until("a", "ready")
    hand.load("b")
    hand.until("b", "ready")
    hand.load("a")
    report = hand.until("a", "ready")
    with pytest.raises(HTTPError) as refusal:
        get(report["url:a"] + "/models", old_key)
    refusal.value.close()
    assert refusal.value.code == 401
    assert get(report["url:a"] + "/models", hand.wants["a"][1])


def test_keys_are_in_no_command_line_environment_or_log(workplace, hand):
    workplace.fake("a", "--print-environment")
    workplace.environ = {"SECRET_OF_THE_WORKER": "hunter2"}
    workplace.start()
    hand.register()
    hand.load("a")
    hand.until("a", "ready")
    key = hand.wants["a"][1]
    (pid,) = workplace.server_pids()
    for name in ("cmdline", "environ"):
        assert key.encode() not in Path(f"/proc/{pid}/{name}").read_bytes()
    assert b"hunter2" not in Path(f"/proc/{pid}/environ").read_bytes()
    assert key not in workplace.log()
    folder = workplace.state_dir / "gpu0" / "servers" / str(hand.generation)
    assert (folder / "key").stat().st_mode & 0o777 == 0o600
    assert workplace.state_dir.joinpath("gpu0").stat().st_mode & 0o077 == 0


def test_a_swap_never_has_two_servers(workplace, hand):
    workplace.fake("a").fake("b")
    workplace.start()
    hand.register()
    for model in ("a", "b", "a", "b"):
        hand.load(model)
        seen = []

        def ready(model=model, seen=seen):
            seen.append(len(workplace.server_pids()))
            return hand.report().get(f"state:{model}") == "ready"

        eventually(ready, what=f"{model} ready")
        assert max(seen) <= 1


def test_two_models_that_fit_are_resident_together_and_a_third_is_refused(workplace, hand):
    workplace.fake("a", memory_mib=400).fake("b", memory_mib=400).fake("c", memory_mib=400)
    workplace.start()
    hand.register()
    hand.load("a")
    hand.until("a", "ready")
    hand.load("a", "b")
    hand.until("b", "ready")
    hand.load("a", "b", "c")
    report = hand.until("c", "failed")
    assert report["error:c"].startswith("no_memory")
    assert report["state:a"] == report["state:b"] == "ready"
    assert len(workplace.server_pids()) == 2


def test_an_unknown_model_fails_without_a_process(workplace, hand):
    workplace.fake("a")
    workplace.start()
    hand.register()
    hand.load("../../bin/sh")
    assert hand.until("../../bin/sh", "failed")["error:../../bin/sh"].startswith("unknown_model")
    assert workplace.server_pids() == set()


@pytest.mark.parametrize(
    "flags, error",
    [
        (["--die-at-start", "7"], "server_died: exited with status 7"),
        (["--load-delay", "0.4", "--die-during-load"], "server_died: exited with status 1"),
        (["--wrong-name", "other"], "wrong_model: the server offers other"),
        (["--empty"], "no_token"),
        (["--never-ready"], "load_timeout"),
        (["--hang-health"], "load_timeout"),
    ],
)
def test_a_load_that_cannot_succeed_fails_with_its_reason_and_leaves_nothing(workplace, hand, flags, error):
    workplace.fake("a", *flags, load_timeout_s=1.5)
    workplace.start()
    hand.register()
    hand.load("a")
    report = hand.until("a", "failed")
    assert report["error:a"].startswith(error)
    assert report["fault"] == ""
    assert workplace.server_pids() == set(), "said before it was true"
    hand.load()
    hand.until_absent("a")


def test_a_missing_program_fails_the_load(workplace, hand):
    workplace.fake("a")
    workplace.models[0]["command"][0] = "no-such-program"
    workplace.start()
    hand.register()
    hand.load("a")
    assert "program not found: no-such-program" in hand.until("a", "failed")["error:a"]


def test_a_failed_load_stays_failed_until_a_new_generation_is_ordered(workplace, hand):
    workplace.fake("a", "--die-at-start", "7")
    workplace.start()
    hand.register()
    hand.load("a")
    first = hand.until("a", "failed")
    beat = int(first["beat"])
    eventually(lambda: int(hand.report()["beat"]) > beat + 2, what="more beats")
    assert hand.report()["gen:a"] == first["gen:a"]
    assert workplace.log().count("step=load") == 1
    hand.wants = {}
    hand.load("a")
    eventually(lambda: hand.report().get("gen:a") == str(hand.generation), what="the new generation")


def test_a_load_that_is_no_longer_wanted_is_cancelled(workplace, hand):
    workplace.fake("slow", "--load-delay", "60").fake("b")
    workplace.start()
    hand.register()
    hand.load("slow")
    hand.until("slow", "loading")
    eventually(workplace.server_pids, what="a server")
    hand.load("b")
    hand.until("b", "ready", 10)
    assert len(workplace.server_pids()) == 1


def test_progress_is_reported_while_the_weights_are_read(workplace, hand, tmp_path):
    weights = tmp_path / "weights"
    weights.write_bytes(b"w" * 64_000_000)
    workplace.fake("a", "--load-delay", "3", "--read-model", "--model", "{model_path}", model_path=str(weights))
    workplace.worker = {"beat_s": 0.1}
    workplace.start()
    hand.register()
    hand.load("a")
    eventually(lambda: 20 < int(hand.report().get("progress:a", "0")) < 100, what="some progress")
    hand.until("a", "ready")


@pytest.mark.parametrize("flag", ["--ignore-sigterm", "--fork-child", "--fork-daemon"])
def test_a_server_that_will_not_go_is_killed_with_all_it_forked(workplace, hand, flag):
    workplace.fake("a", flag, stop_timeout_s=0.5)
    workplace.start()
    hand.register()
    hand.load("a")
    hand.until("a", "ready")
    assert len(workplace.server_pids()) == (1 if flag == "--ignore-sigterm" else 2)
    hand.load()
    hand.until_absent("a", 10)
    assert workplace.server_pids() == set()


def test_the_death_of_a_ready_server_is_reported_at_once(workplace, hand):
    workplace.fake("a", "--fork-daemon")
    workplace.worker = {"beat_s": 30.0, "orders_interval_s": 30.0}
    workplace.start()
    hand.register()
    hand.load("a")
    hand.until("a", "ready")
    os.kill(workplace.identity(hand.generation)["pid"], 9)
    report = hand.until("a", "failed", 2)
    assert report["error:a"].startswith("server_died: killed by SIGKILL")
    eventually(lambda: not workplace.server_pids(), what="its child gone")


def test_a_hung_server_is_noticed_and_killed(workplace, hand):
    workplace.fake("a", "--hang-after", "1")
    workplace.worker = {"probe_interval_s": 0.2, "probe_timeout_s": 0.3, "probe_failures": 2}
    workplace.start()
    hand.register()
    hand.load("a")
    hand.until("a", "ready")
    assert hand.until("a", "failed", 10)["error:a"].startswith("server_hung")
    eventually(lambda: not workplace.server_pids(), what="the hung server gone")


def test_an_embedding_model_is_ready_with_its_first_vector(workplace, hand):
    workplace.fake("good", kind="embedding", memory_mib=100).fake("bad", "--empty", kind="embedding", memory_mib=100)
    workplace.start()
    hand.register()
    hand.load("good")
    hand.until("good", "ready")
    hand.load("bad")
    assert hand.until("bad", "failed")["error:bad"].startswith("no_embedding")


def test_a_chat_server_without_plain_completions_is_proven_through_the_chat(workplace, hand):
    workplace.fake("a", "--no-completions")
    workplace.start()
    hand.register()
    hand.load("a")
    hand.until("a", "ready")


def test_the_log_of_a_chatty_server_is_bounded(workplace, hand):
    workplace.fake("a", "--noise", "1000000")
    workplace.worker = {"log_limit_kib": 64}
    workplace.start()
    hand.register()
    hand.load("a")
    hand.until("a", "ready")
    folder = workplace.state_dir / "gpu0" / "servers" / str(hand.generation)
    assert sum(file.stat().st_size for file in folder.glob("server.log*")) <= 2 * 65536
