"""What the worker says of loads that fail: for good, in passing, for want of room, or by the host's doing."""

import os
import re
import signal
import socket
import subprocess
import sys
import time

import pytest

from tests.integration.worker.conftest import FAKE, eventually

pytestmark = pytest.mark.redis


def failed(workplace, hand, *wanted, model="a"):
    """Order a load that fails; answers the report."""
    hand.load(*(wanted or (model,)))
    return eventually(
        lambda: (
            (r := hand.report()).get(f"state:{model}") == "failed"
            and r.get(f"gen:{model}") == str(hand.generation)
            and r
        ),
        what=f"{model} failing",
    )


def again(workplace, hand, *kept, model="a"):
    """The broker takes the order back and orders the load once more."""
    hand.load(*kept)
    hand.until_absent(model)
    return failed(workplace, hand, *kept, model, model=model)


def started(workplace, hand):
    workplace.start()
    hand.register()


# ------------------------------------------------------------------------------------------------------- what is seen


def test_what_cannot_be_started_is_said_at_the_start_and_when_it_is_mended(workplace, hand, tmp_path):
    program = tmp_path / "serve"
    workplace.fake("a").fake("fine")
    workplace.models[0]["command"][0] = str(program)
    started(workplace, hand)
    assert hand.report()["unsound:a"] == f"program not found: {program}"
    assert "unsound:fine" not in hand.report()
    assert f'model_unsound model=a reason="program not found: {program}"' in workplace.log()
    assert workplace.log().index("model_unsound") < workplace.log().index("worker_started")
    before = failed(workplace, hand)
    assert before["failure:a"] == "permanent"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    program.chmod(0o755)
    eventually(lambda: "unsound:a" not in hand.report(), what="the program being seen")
    hand.load()
    hand.until_absent("a")
    eventually(lambda: hand.report()["stamp:a"] != before["stamp:a"], what="another stamp")
    hand.load("a")
    report = hand.until("a", "ready")
    assert "stamp:a" not in report


def test_a_file_that_changes_changes_the_stamp_and_nothing_else_does(workplace, hand, tmp_path):
    weights = tmp_path / "w.bin"
    weights.write_text("broken")
    workplace.fake("a", "--die-saying", "error: invalid magic", "--model", "{model_path}", model_path=str(weights))
    started(workplace, hand)
    first = failed(workplace, hand)
    assert again(workplace, hand)["stamp:a"] == first["stamp:a"]
    weights.write_text("mended")
    hand.load()
    hand.until_absent("a")
    eventually(lambda: hand.report()["stamp:a"] != first["stamp:a"], what="another stamp")


# ------------------------------------------------------------------------------------------------------ how it failed


@pytest.mark.parametrize(
    "words",
    ["error: invalid argument: --flash-atn", "CUDA error: out of memory", "w.gguf: No such file or directory"],
)
def test_what_the_server_says_itself_is_permanent_at_once_and_repeated(workplace, hand, words):
    workplace.fake("a", "--die-saying", words)
    started(workplace, hand)
    began_s = time.monotonic()
    report = failed(workplace, hand)
    assert time.monotonic() - began_s < 30
    assert report["failure:a"] == "permanent"
    assert report["error:a"] == f"server_died: exited with status 1; {words}"


def test_a_server_that_dies_without_a_reason_is_passing_once_and_permanent_when_it_does_so_again(workplace, hand):
    workplace.fake("a", "--die-at-start", "7")
    started(workplace, hand)
    assert failed(workplace, hand)["failure:a"] == "passing"
    assert again(workplace, hand)["failure:a"] == "permanent"


def test_a_load_that_succeeds_forgets_the_one_that_failed(workplace, hand, tmp_path):
    workplace.fake("a", "--die-first", str(tmp_path / "starts"), "1")
    started(workplace, hand)
    assert failed(workplace, hand)["failure:a"] == "passing"
    for _ in range(2):
        hand.load()
        hand.until_absent("a")
        hand.load("a")
        assert "stamp:a" not in hand.until("a", "ready")
    (tmp_path / "starts").unlink()
    assert again(workplace, hand)["failure:a"] == "passing"


def test_who_was_killed_while_it_loaded_may_live_the_next_time_however_often(workplace, hand):
    workplace.fake("a", "--load-delay", "60")
    started(workplace, hand)
    for _ in range(3):
        hand.load("a")
        hand.until("a", "loading")
        os.kill(workplace.identity(hand.generation)["pid"], signal.SIGKILL)
        assert hand.until("a", "failed")["failure:a"] == "passing"
        hand.load()
        hand.until_absent("a")


@pytest.mark.parametrize(
    "flags, failure",
    [(["--wrong-name", "other"], "permanent"), (["--never-ready"], "passing"), (["--empty"], "passing")],
)
def test_a_server_of_another_name_is_permanent_and_a_slow_one_is_not(workplace, hand, flags, failure):
    workplace.fake("a", *flags, load_timeout_s=1.0)
    started(workplace, hand)
    assert failed(workplace, hand)["failure:a"] == failure


def test_a_server_that_does_not_take_its_key_is_told_apart_from_one_of_another_name(workplace, hand, tmp_path):
    (tmp_path / "other-key").write_text("other")
    workplace.fake("a", "--api-key-file", str(tmp_path / "other-key"))
    started(workplace, hand)
    report = failed(workplace, hand)
    assert report["error:a"].startswith("key_refused")
    assert report["failure:a"] == "permanent"


def test_a_crash_beside_another_model_asks_for_room_and_alone_it_loads(workplace, hand, tmp_path):
    held = str(tmp_path / "held")
    workplace.fake("b", "--hold", held, memory_mib=300).fake("a", "--abort-beside", held, memory_mib=300)
    started(workplace, hand)
    hand.load("b")
    hand.until("b", "ready")
    report = failed(workplace, hand, "b", "a")
    assert report["failure:a"] == "room"
    assert report["error:a"].startswith("server_died: killed by SIGABRT")
    hand.load()
    hand.until_absent("a")
    hand.until_absent("b")
    hand.load("a")
    hand.until("a", "ready")


def test_out_of_memory_beside_another_model_asks_for_room_and_alone_it_is_permanent(workplace, hand):
    workplace.fake("b", memory_mib=300).fake("a", "--die-saying", "CUDA error: out of memory", memory_mib=300)
    started(workplace, hand)
    hand.load("b")
    hand.until("b", "ready")
    assert failed(workplace, hand, "b", "a")["failure:a"] == "room"
    hand.load()
    hand.until_absent("b")
    hand.until_absent("a")
    assert failed(workplace, hand)["failure:a"] == "permanent"


def test_no_free_port_is_the_hosts_doing(workplace, hand):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        workplace.fake("a")
        workplace.worker = {"port_min": port, "port_max": port}
        started(workplace, hand)
        for _ in range(2):
            report = failed(workplace, hand)
            assert (report["error:a"], report["failure:a"]) == ("no free port on 127.0.0.1", "host")
            hand.load()
            hand.until_absent("a")
    hand.load("a")
    hand.until("a", "ready")


def test_what_does_not_fit_at_this_moment_is_the_hosts_doing_and_an_unknown_model_is_for_good(workplace, hand):
    workplace.fake("a", memory_mib=600).fake("b", memory_mib=600)
    started(workplace, hand)
    hand.load("b")
    hand.until("b", "ready")
    report = failed(workplace, hand, "b", "a")
    assert (report["error:a"].partition(":")[0], report["failure:a"]) == ("no_memory", "host")
    report = failed(workplace, hand, "b", "stranger", model="stranger")
    assert report["failure:stranger"] == "permanent"


@pytest.mark.parametrize("error", ["ENOEXEC", "EACCES"])
def test_a_program_that_the_system_does_not_execute_is_permanent(workplace, hand, tmp_path, error):
    program = tmp_path / "serve"
    program.write_bytes(b"\x7fELF and no more")
    program.chmod(0o755)
    workplace.fake("a")
    workplace.models[0]["command"][0] = str(program)
    if error == "EACCES":
        program.write_text("#!" + str(tmp_path / "hidden") + "\n")
        (tmp_path / "hidden").write_text("no program")
    started(workplace, hand)
    report = failed(workplace, hand)
    assert report["failure:a"] == "permanent"
    assert str(program) in report["error:a"]


# -------------------------------------------------------------------------------------------------------- last words


def test_all_a_server_said_before_its_end_is_there_and_no_secret_of_it(workplace, hand):
    program = (
        "import sys; print('x' * 200000, flush=True); key = open(sys.argv[1]).read(); "
        "sys.exit('error: bad token ' + sys.argv[2] + ' for ' + key)"
    )
    workplace.fake("a", env={"HUB_TOKEN": "do-not-tell-anybody"})
    command = [sys.executable, "-c", program, "{api_key_file}", "do-not-tell-anybody", "{port}"]
    workplace.models[0]["command"] = command
    started(workplace, hand)
    report = failed(workplace, hand)
    assert "error: bad token [secret] for [secret]" in report["error:a"]
    assert len(report["error:a"]) <= 500
    assert "do-not-tell" not in str(report) + workplace.log()
    assert hand.wants["a"][1] not in str(report) + workplace.log()


# ---------------------------------------------------------------------------------------------------- whose port it is


def test_nobody_else_on_the_port_is_believed_or_given_the_key(workplace, hand, tmp_path):
    """The command starts no server: somebody else answers there, with any key, and is healthy."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    keys = tmp_path / "keys"
    run_stranger = f"exec {sys.executable} -S -E {FAKE} --port {port} --alias a --any-key --key-log {keys}"
    workplace.fake("a")
    wait = f"sleep 1; kill -USR1 $(cat {tmp_path}/stranger); sleep 60 # {{port}} {{api_key_file}}"
    workplace.models[0]["command"] = ["sh", "-c", wait]
    workplace.worker = {"port_min": port, "port_max": port}
    stranger = subprocess.Popen(
        ["sh", "-c", f"trap '{run_stranger}' USR1; echo $$ > {tmp_path}/stranger; while :; do sleep 0.05; done"]
    )
    try:
        started(workplace, hand)
        report = failed(workplace, hand)
        assert re.match(rf"port_taken: port {port} is answered by python[\w.]* \(pid \d+\)", report["error:a"])
        assert report["failure:a"] == "host"
        assert hand.wants["a"][1] not in (keys.read_text() if keys.exists() else "")
    finally:
        stranger.kill()
        stranger.wait()


def test_a_server_behind_a_wrapper_is_our_own(workplace, hand):
    workplace.fake("a")
    command = workplace.models[0]["command"]
    workplace.models[0]["command"] = ["sh", "-c", '"$@" & wait', "sh", *command]
    started(workplace, hand)
    hand.load("a")
    hand.until("a", "ready")
    assert len(workplace.server_pids()) == 2


# ------------------------------------------------------------------------------------------------ up and doing nothing


def ready_and_doubted(workplace, hand, number=1):
    hand.load("a")
    hand.until("a", "ready")
    hand.write(**{"prove:a": number})


def test_a_server_that_hangs_behind_its_health_is_proved_useless_and_killed(workplace, hand):
    workplace.fake("a", "--mute-after", "1")
    workplace.worker = {"prove_timeout_s": 2}  # of which a loaded machine needs some milliseconds to fall silent
    started(workplace, hand)
    ready_and_doubted(workplace, hand)
    report = hand.until("a", "failed")
    assert report["error:a"].startswith("server_useless: no token within 2 s, and its processes did nothing meanwhile")
    assert report["failure:a"] == "useless"
    eventually(lambda: not workplace.server_pids(), what="its end")


def test_a_server_that_answers_an_error_to_everything_is_proved_useless(workplace, hand):
    workplace.fake("a", "--broken-after", "1", "CUDA error: out of memory")
    started(workplace, hand)
    ready_and_doubted(workplace, hand)
    report = hand.until("a", "failed")
    assert report["error:a"].startswith("server_useless: it answers 500 to everything: CUDA error: out of memory")
    assert report["failure:a"] == "useless", "nobody is beside it"


def test_a_fault_of_memory_beside_another_model_asks_for_room(workplace, hand):
    workplace.fake("b", memory_mib=300).fake("a", "--broken-after", "1", "CUDA error: out of memory", memory_mib=300)
    started(workplace, hand)
    hand.load("b")
    hand.until("b", "ready")
    hand.load("b", "a")
    hand.until("a", "ready")
    hand.write(**{"prove:a": 1})
    assert hand.until("a", "failed")["failure:a"] == "room"


@pytest.mark.parametrize("flags", [[], ["--mute-after", "1", "--toil"]])
def test_a_server_that_speaks_or_works_on_something_is_left_alone(workplace, hand, flags):
    workplace.fake("a", *flags)
    workplace.worker = {"prove_timeout_s": 0.5}
    started(workplace, hand)
    ready_and_doubted(workplace, hand)
    eventually(lambda: "server_proved" in workplace.log(), what="the proof")
    hand.write(**{"prove:a": 1})
    time.sleep(0.3)
    assert workplace.log().count("server_proved") == 1, "one doubt is one question"
    hand.write(**{"prove:a": 2})
    eventually(lambda: workplace.log().count("server_proved") == 2, what="the second proof")
    assert hand.report()["state:a"] == "ready"
