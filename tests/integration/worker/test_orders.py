"""Which orders are carried out: registered, not stale, ours; and what store, disk or a rival can do to that."""

import time

import pytest

from gpu_worker.app import EXIT_SUPERSEDED
from gpu_worker.cli import EXIT_SLOT_TAKEN
from tests.integration.worker.conftest import eventually

pytestmark = pytest.mark.redis


def a_few_beats(hand, count=4):
    beat = int(eventually(hand.report, what="a report")["beat"])
    eventually(lambda: int(hand.report().get("beat", 0)) >= beat + count, what="more beats")


@pytest.fixture
def quick(workplace):
    workplace.fake("a").fake("b")
    workplace.worker = {"beat_s": 0.1, "orders_interval_s": 0.1}
    return workplace


def test_an_old_unload_after_a_newer_load_changes_nothing(quick, hand):
    quick.start()
    hand.register()
    hand.load("a")
    hand.until("a", "ready")
    hand.write(gen=hand.generation - 1, **{"want:a": 0})
    before = quick.server_pids()
    hand.client.hdel("hotseat:{default}:orders:gpu0", "want:a", "key:a")
    a_few_beats(hand)
    assert hand.report()["state:a"] == "ready"
    assert quick.server_pids() == before
    assert "orders_stale" in quick.log()


def test_nothing_is_carried_out_before_the_registration(quick, hand):
    hand.wants, hand.generation, hand.boot, hand.epoch = {"a": (5, "k")}, 5, "somebody-else", 3
    hand.write()
    quick.start()
    a_few_beats(hand)
    assert "state:a" not in hand.report()
    assert quick.server_pids() == set()


def test_nothing_is_carried_out_in_a_foreign_incarnation_until_registered_again(quick, hand):
    quick.start()
    hand.register()
    hand.load("a")
    hand.until("a", "ready")
    hand.incarnation = "inc2"
    hand.load("b")
    a_few_beats(hand)
    report = hand.report()
    assert (report["inc"], report["epoch"]) == ("inc2", "0")
    assert report["state:a"] == "ready"
    assert "state:b" not in report
    high_water = int(report["hw"])
    hand.generation = 0
    hand.register()
    assert hand.generation > high_water
    hand.load("b")
    hand.until("b", "ready")
    hand.until_absent("a")


def test_the_high_water_mark_outlives_the_worker(quick, hand):
    process = quick.start("--stop-servers")
    hand.register()
    hand.load("a")
    hand.until("a", "ready")
    mark = hand.report()["hw"]
    assert mark == str(hand.generation)
    process.terminate()
    process.wait(60)
    hand.client.flushall()
    hand.wants, hand.generation, hand.incarnation = {}, 0, "inc2"
    quick.start()
    report = hand.register(not_boot=hand.boot)
    assert report["hw"] == mark


def test_a_torn_high_water_mark_is_set_aside_and_the_handshake_starts_over(quick, hand):
    process = quick.start("--stop-servers")
    hand.register()
    process.terminate()
    process.wait(60)
    path = quick.state_dir / "gpu0" / "high_water"
    path.write_text("12")
    quick.start()
    report = hand.register(not_boot=hand.boot)
    assert report["hw"] == "0"
    assert "high_water_unreadable" in quick.log()
    hand.load("a")
    hand.until("a", "ready")
    assert path.read_text() == f"{hand.generation}\n"


def test_a_worker_superseded_by_a_later_one_stops_its_servers_and_exits(quick, hand):
    process = quick.start()
    hand.register()
    hand.load("a")
    hand.until("a", "ready")
    hand.boot, hand.epoch = "a-later-worker", hand.epoch + 1
    hand.write()
    assert process.wait(60) == EXIT_SUPERSEDED
    assert quick.server_pids() == set()
    assert "worker_superseded" in quick.log()


def test_a_second_worker_for_the_same_slot_says_why_it_stops(quick, hand):
    first = quick.start()
    hand.register()
    second = quick.start()
    assert second.wait(60) == EXIT_SLOT_TAKEN
    assert f"already served by another worker on this host (pid {first.pid})" in quick.log()
    assert first.poll() is None


def test_a_worker_whose_slot_another_host_has_keeps_quiet_says_whose_it_is_and_exits(quick, hand):
    quick.worker |= {"claim_wait_s": 2.0}
    hand.boot = "first"
    hand.write(holder="host1")
    process = quick.start()
    report = eventually(lambda: (r := hand.report()).get("inc") == hand.incarnation and r, what="a claim")
    hand.write(refused=report["boot"], holder="host1")
    eventually(lambda: "slot_taken" in quick.log(), what="the refusal")
    hand.client.delete("hotseat:{default}:report:gpu0")
    assert process.wait(60) == EXIT_SLOT_TAKEN
    assert hand.report() == {}, "the other's report stands there"
    assert "slot 'gpu0' is served by worker 'host1' of another host" in quick.log()


def test_a_workers_home_is_the_same_after_a_restart_and_another_in_another_folder(quick, hand, tmp_path):
    process = quick.start()
    home = hand.register()["home"]
    process.kill()
    process.wait(60)
    process = quick.start()
    assert hand.register(not_boot=hand.boot)["home"] == home
    process.kill()
    process.wait(60)
    quick.worker["state_dir"] = str(tmp_path / "elsewhere")
    quick.start()
    assert hand.register(not_boot=hand.boot)["home"] not in {home, ""}


def test_servers_run_on_while_the_store_is_away_and_orders_are_taken_up_again(quick, hand, valkey):
    quick.start()
    hand.register()
    hand.load("a")
    hand.until("a", "ready")
    before = quick.server_pids()
    valkey.kill()
    eventually(lambda: "store_lost" in quick.log(), what="the loss in the log")
    time.sleep(1.0)
    assert quick.server_pids() == before
    valkey.start()
    hand.load("b")
    hand.until("b", "ready")
    hand.until_absent("a")
    assert "store_back" in quick.log()


def test_orders_are_taken_up_at_once_when_the_ring_sounds(workplace, hand):
    workplace.fake("a")
    workplace.worker = {"beat_s": 30.0, "orders_interval_s": 60.0}
    workplace.start()
    hand.register()
    started_s = time.monotonic()
    hand.load("a")
    hand.until("a", "ready")
    assert time.monotonic() - started_s < 30, "the next look at the orders is a minute away"


def test_a_missed_ring_heals_at_the_next_periodic_read(quick, hand):
    quick.start()
    hand.register()
    hand.generation += 1
    orders = "hotseat:{default}:orders:gpu0"
    hand.client.hset(orders, mapping={"gen": hand.generation, "want:a": hand.generation, "key:a": "k"})
    hand.until("a", "ready", 5)


def test_reports_ring_the_bell_when_something_changed_and_not_at_every_beat(quick, hand):
    quick.start()
    hand.register()
    a_few_beats(hand)
    bell = "hotseat:{default}:bell"
    rung = hand.client.xlen(bell)
    a_few_beats(hand, 10)
    assert hand.client.xlen(bell) == rung
    hand.load("a")
    hand.until("a", "ready")
    assert hand.client.xlen(bell) > rung


def test_a_worker_needs_no_more_of_the_store_than_its_acl_allows(quick, hand, tmp_path):
    rules = "reset on >secret %R~hotseat:{default}:orders:gpu0 %R~hotseat:{default}:ring:gpu0 "
    rules += "%W~hotseat:{default}:report:gpu0 %W~hotseat:{default}:bell resetchannels -@all "
    rules += "+hgetall +hset +del +xadd +xread +multi +exec +hello +auth +select"
    hand.client.execute_command("ACL", "SETUSER", "worker", *rules.split())
    (tmp_path / "password").write_text("secret\n")
    quick.environ = {"HOTSEAT_STORE_USERNAME": "worker", "HOTSEAT_STORE_PASSWORD_FILE": str(tmp_path / "password")}
    quick.start()
    hand.register()
    hand.load("a")
    hand.until("a", "ready")
    hand.load()
    hand.until_absent("a")
    denied = hand.client.execute_command("ACL", "LOG")
    assert denied == []
    assert "secret" not in quick.log()


def test_a_slot_loads_the_models_that_may_be_there_and_no_others(workplace, hand):
    workplace.fake("anywhere").fake("here", slots=["gpu1", "gpu0"]).fake("elsewhere", slots=["gpu1"])
    workplace.start()
    hand.register()
    assert hand.report()["serves"].split() == ["anywhere", "here"]
    hand.load("here")
    hand.until("here", "ready")


def test_a_depth_of_a_newer_broker_is_refused_without_a_process(quick, hand):
    quick.start()
    hand.register()
    hand.generation += 1
    hand.wants = {"a": (hand.generation, "k")}
    hand.write(**{"depth:a": "parked"})
    report = hand.until("a", "failed")
    assert (report["error:a"], report["failure:a"]) == ("unknown_depth: this worker knows no 'parked'", "host")
    assert quick.server_pids() == set()
    hand.write(**{"depth:a": "ready"})
    a_few_beats(hand)
    assert hand.report()["state:a"] == "failed", "another order has another generation"
    hand.load()
    hand.until_absent("a")
    hand.load("a")
    hand.until("a", "ready")
