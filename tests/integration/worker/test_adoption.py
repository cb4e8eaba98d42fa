"""Model servers outlive their worker for a while, are adopted by the next one, and never become orphans."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time

import pytest

from gpu_worker.host import procfs
from tests.integration.worker.conftest import eventually

pytestmark = pytest.mark.redis


def ready(workplace, hand, model="a"):
    """A registered worker with one ready model."""
    process = workplace.start()
    hand.register()
    hand.load(model)
    hand.until(model, "ready")
    return process, workplace.identity(hand.generation)


def kill(process):
    process.kill()
    process.wait(60)


def test_a_server_survives_its_killed_worker_and_is_adopted_without_a_reload(workplace, hand):
    workplace.fake("a")
    process, identity = ready(workplace, hand)
    generation = hand.generation
    kill(process)
    workplace.start()
    report = hand.register(not_boot=hand.boot)
    assert report["state:a"] == "ready"
    assert report["gen:a"] == str(generation)
    hand.load("a")
    hand.until("a", "ready")
    assert workplace.server_pids() == {identity["pid"]}
    assert "server_adopted" in workplace.log()
    hand.load()
    hand.until_absent("a")
    assert workplace.server_pids() == set()


def test_sigterm_leaves_servers_to_adoption_by_default(workplace, hand):
    workplace.fake("a")
    process, identity = ready(workplace, hand)
    process.terminate()
    assert process.wait(60) == 0
    assert workplace.server_pids() == {identity["pid"]}


def test_stop_servers_ends_them_with_the_worker(workplace, hand):
    workplace.fake("a")
    process = workplace.start("--stop-servers")
    hand.register()
    hand.load("a")
    hand.until("a", "ready")
    process.terminate()
    assert process.wait(60) == 0
    assert workplace.server_pids() == set()


def test_an_unadopted_server_is_gone_after_its_grace(workplace, hand):
    workplace.fake("a", "--ignore-sigterm", "--fork-daemon", stop_timeout_s=0.2)
    workplace.worker = {"adopt_grace_s": 1.0}
    process, identity = ready(workplace, hand)
    kill(process)
    killed_s = time.monotonic()
    eventually(lambda: not workplace.server_pids(), 6, "the end of the orphans")
    assert time.monotonic() - killed_s >= 1.0
    eventually(lambda: not procfs.is_same(identity["guardian_pid"], identity["guardian_started"]), 5, "guardian gone")


def test_adoption_stops_the_clock_of_the_grace(workplace, hand):
    workplace.fake("a")
    workplace.worker = {"adopt_grace_s": 2.0}
    process, identity = ready(workplace, hand)
    kill(process)
    workplace.start()
    hand.register(not_boot=hand.boot)
    time.sleep(2.5)
    assert workplace.server_pids() == {identity["pid"]}


def test_a_killed_guardian_leaves_no_orphan_and_the_worker_notices(workplace, hand):
    workplace.fake("a", "--fork-daemon")
    _, identity = ready(workplace, hand)
    assert len(workplace.server_pids()) == 2
    os.kill(identity["guardian_pid"], signal.SIGKILL)
    assert hand.until("a", "failed", 5)["error:a"].startswith("server_died")
    eventually(lambda: not workplace.server_pids(), 5, "the end of the server and its child")


def under_a_shell(workplace):
    """As a wrapper script starts it: the model server is not the process that the guardian knows."""
    command = " ".join(shlex.quote(word) for word in workplace.models[0]["command"])
    workplace.models[0]["command"] = ["/bin/sh", "-c", f"trap '' TERM; {command}; true"]
    return workplace


@pytest.mark.parametrize("wrapped", [False, True])
def test_guardian_and_worker_killed_together_leave_nothing(workplace, hand, wrapped):
    workplace.fake("a", "--fork-daemon", "--ignore-sigterm")
    if wrapped:
        under_a_shell(workplace)
    process, identity = ready(workplace, hand)
    assert len(workplace.server_pids()) == 2 + wrapped
    process.kill()
    os.kill(identity["guardian_pid"], signal.SIGKILL)
    process.wait(60)
    eventually(lambda: not workplace.server_pids(), 5, "the end of the server and all it forked")


def test_a_killed_warden_harms_nobody(workplace, hand):
    """It only matters once the guardian is gone."""
    workplace.fake("a")
    _, identity = ready(workplace, hand)
    os.kill(warden_of(identity), signal.SIGKILL)
    hand.load()
    hand.until_absent("a")
    assert workplace.server_pids() == set()


def warden_of(identity):
    return procfs.read_proc(identity["guardian_pid"]).parent


def test_strays_of_a_worker_killed_with_guardian_and_warden_are_killed_by_the_next_worker(workplace, hand):
    workplace.fake("a", "--fork-daemon")
    process, identity = ready(workplace, hand)
    kill(process)
    for pid in (warden_of(identity), identity["guardian_pid"]):
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: len(workplace.server_pids()) == 1, what="the server dead and its child left")
    workplace.start()
    report = hand.register(not_boot=hand.boot)
    assert "state:a" not in report
    assert workplace.server_pids() == set()


def test_a_stray_whose_folder_is_lost_is_killed(workplace, hand):
    workplace.fake("a")
    process, identity = ready(workplace, hand)
    kill(process)
    os.kill(identity["guardian_pid"], signal.SIGSTOP)  # so that it cannot do it itself
    try:
        shutil.rmtree(workplace.state_dir / "gpu0" / "servers")
        workplace.start()
        hand.register(not_boot=hand.boot)
        assert workplace.server_pids() == set()
    finally:
        os.kill(identity["guardian_pid"], signal.SIGKILL)


def test_a_hung_guardian_is_killed_with_its_server(workplace, hand):
    workplace.fake("a")
    process, identity = ready(workplace, hand)
    kill(process)
    os.kill(identity["guardian_pid"], signal.SIGSTOP)
    workplace.start()
    report = hand.register(not_boot=hand.boot)
    assert "state:a" not in report
    assert workplace.server_pids() == set()
    assert not procfs.is_same(identity["guardian_pid"], identity["guardian_started"])


def test_a_server_that_would_be_started_otherwise_now_is_not_adopted(workplace, hand):
    workplace.fake("a")
    process, _ = ready(workplace, hand)
    kill(process)
    workplace.models[0]["command"] += ["--token-delay", "0.001"]
    workplace.start()
    report = hand.register(not_boot=hand.boot)
    assert "state:a" not in report
    assert workplace.server_pids() == set()


def test_a_server_that_hangs_at_adoption_is_not_adopted(workplace, hand):
    workplace.fake("a")
    workplace.worker = {"adopt_timeout_s": 0.5}
    process, identity = ready(workplace, hand)
    kill(process)
    os.kill(identity["pid"], signal.SIGSTOP)
    workplace.start()
    report = hand.register(not_boot=hand.boot)
    assert "state:a" not in report
    assert workplace.server_pids() == set()


def test_a_worker_killed_during_a_load_leaves_no_half_loaded_server(workplace, hand):
    workplace.fake("a", "--load-delay", "60")
    workplace.worker = {"adopt_timeout_s": 0.5}
    process = workplace.start()
    hand.register()
    hand.load("a")
    eventually(workplace.server_pids, what="a server")
    kill(process)
    workplace.start()
    hand.register(not_boot=hand.boot)
    assert workplace.server_pids() == set()


def test_an_innocent_process_with_a_recycled_pid_is_left_alone(workplace, hand):
    """The state file names a pid that now belongs to somebody else: only the start time can tell."""
    workplace.fake("a")
    process, identity = ready(workplace, hand)
    kill(process)
    os.kill(identity["guardian_pid"], signal.SIGKILL)
    eventually(lambda: not workplace.server_pids(), what="the end of the server")
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True) as innocent:
        try:
            path = workplace.state_dir / "gpu0" / "servers" / str(hand.generation) / "server.json"
            text = path.read_text()
            for name in ("pid", "guardian_pid"):
                text = text.replace(f'"{name}": {identity[name]}', f'"{name}": {innocent.pid}')
            path.write_text(text)
            workplace.start()
            hand.register(not_boot=hand.boot)
            assert innocent.poll() is None
        finally:
            innocent.kill()
