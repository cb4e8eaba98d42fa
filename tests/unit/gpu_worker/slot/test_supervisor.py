"""One slot's loop between a hand that writes orders and servers in memory: what it does, and what it does not."""

import asyncio
import shutil

import pytest

from gpu_worker.drivers.failing import Failing
from gpu_worker.drivers.port import LoadError, StuckError
from gpu_worker.slot.clock import now_s
from gpu_worker.slot.high_water import HighWater
from gpu_worker.slot.registration import CLAIM_PAUSE_S
from gpu_worker.slot.settings import Ending
from schemas.messages import FailureKind, Want
from tests.fakes.slot_scene import FOOTPRINT_MIB, SlotScene, until
from tests.simulation.virtual import virtually


@pytest.fixture
def scene(tmp_path):
    def make(**more):
        return SlotScene(tmp_path / "state", **more)

    return make


async def with_ready(scene, *models):
    """The scene, registered, with these ready."""
    await scene.registered()
    scene.order(*models)
    for model in models:
        await scene.until_state(model, "ready")
    return scene


# -------------------------------------------------------------------------------------------------------- orders


@pytest.mark.parametrize(
    "heading",
    [{"incarnation": "", "boot": ""}, {"epoch": 0}, {"boot": ""}, {"boot": "before", "epoch": 9}],
)
@virtually
async def test_nothing_is_carried_out_before_the_registration(scene, heading):
    one = scene()
    one.generation, one.wants = 5, {"a": Want(model="a", generation=5, key="k")}
    one.write(**heading)
    running = await one.runs()
    await asyncio.sleep(60)
    assert one.servers == []
    assert not running.done()
    assert one.report.high_water == 0


@virtually
async def test_an_order_is_carried_out_and_reported_with_its_generation(scene):
    one = scene()
    await one.registered()
    one.order("a")
    await one.until_state("a", "ready")
    told, server = one.of("a"), one.server_of("a")
    assert (told.generation, told.url, one.report.high_water) == (one.generation, server.url, one.generation)
    assert (server.launch.generation, server.launch.key) == (one.generation, f"key-{one.generation}")


@virtually
async def test_an_order_below_the_high_water_mark_changes_nothing(scene):
    one = await with_ready(scene(), "a")
    one.write(generation=one.generation - 1, wants=(Want(model="b", generation=one.generation - 1, key="k"),))
    await asyncio.sleep(60)
    assert one.states() == {"a": "ready"}
    assert len(one.servers) == 1


@virtually
async def test_an_order_at_the_mark_of_a_former_epoch_changes_nothing(scene):
    one = scene(epoch=3)
    await with_ready(one, "a")
    one.write(epoch=2, wants=())
    await asyncio.sleep(60)
    assert one.states() == {"a": "ready"}


@virtually
async def test_the_same_order_read_again_starts_nothing_again(scene):
    one = await with_ready(scene(), "a")
    for _ in range(5):
        one.write()
        await asyncio.sleep(5)
    assert len(one.servers) == 1
    assert one.servers[0].started == 1


@virtually
async def test_the_mark_is_on_the_disk_before_anything_of_its_order_is_begun(scene):
    one, marks = scene(), []
    one.driver.on_made = lambda server: marks.append(HighWater(one.folder).generation - server.launch.generation)
    await with_ready(one, "a")
    assert marks == [0]


@virtually
async def test_the_mark_outlives_the_worker(scene):
    one = await with_ready(scene(), "a")
    another = scene()
    await another.supervisor.open()
    await another.supervisor.tick(now_s())
    assert another.report.high_water == one.generation


@virtually
async def test_nothing_is_begun_while_the_mark_cannot_be_written_and_the_report_says_so(scene):
    one = scene()
    await one.registered()
    shutil.rmtree(one.folder)
    one.order("a")
    await until(lambda: one.report.fault)
    await asyncio.sleep(60)
    assert one.report.fault == "state_dir: No such file or directory"
    assert one.servers == []
    one.folder.mkdir()
    await one.until_state("a", "ready")
    assert one.report.fault == ""


# ---------------------------------------------------------------------------------------------------------- load


@virtually
async def test_a_failed_load_is_reported_with_its_kind_and_not_tried_again_until_it_is_ordered_anew(scene):
    one = scene()
    one.driver.on_made = lambda server: setattr(server, "failure", LoadError("no_program: x", Failing.PERMANENT))
    await one.registered()
    one.order("a")
    await one.until_state("a", "failed")
    assert (one.of("a").error, one.of("a").failure) == ("no_program: x", FailureKind.PERMANENT)
    assert one.store.rung[-1].residencies == one.report.residencies, "waiters hear of it at once"
    await asyncio.sleep(600)
    assert len(one.servers) == 1
    one.driver.on_made = lambda _: None
    one.wants.clear()
    one.order("a")
    await one.until_state("a", "ready")
    assert len(one.servers) == 2


@virtually
async def test_a_second_load_is_not_begun_while_the_first_one_runs(scene):
    one = scene()
    one.driver.on_made = lambda server: setattr(server, "healthy", False)
    await one.registered()
    one.order("a")
    one.order("a", "b")
    await asyncio.sleep(30)
    assert [server.launch.recipe.model for server in one.servers] == ["a"]
    one.driver.on_made = lambda _: None
    one.server_of("a").healthy = True
    await one.until_state("b", "ready")
    assert one.states() == {"a": "ready", "b": "ready"}


@virtually
async def test_a_load_that_is_no_longer_wanted_is_cancelled_and_its_server_ended(scene):
    one = scene()
    one.driver.on_made = lambda server: setattr(server, "healthy", False)
    await one.registered()
    one.order("a")
    await one.until_state("a", "loading")
    one.order()
    await until(lambda: not one.states())
    assert one.servers[0].graces == [0.0]
    assert "failed" not in {told.state for report in one.store.reports for told in report.residencies}


@virtually
async def test_of_a_swap_the_second_server_is_made_when_the_memory_of_the_first_is_back(scene):
    one = await with_ready(scene(), "a")
    one.device.not_back_mib = FOOTPRINT_MIB
    one.order("b")
    await asyncio.sleep(5)
    assert (one.states(), len(one.servers)) == ({"a": "unloading"}, 1)
    assert not one.servers[0].running
    one.device.not_back_mib = 0
    await one.until_state("b", "ready")
    assert one.states() == {"b": "ready"}


@virtually
async def test_memory_that_does_not_come_back_is_the_slots_fault(scene):
    one = await with_ready(scene(), "a")
    one.device.not_back_mib = FOOTPRINT_MIB
    one.order()
    await until(lambda: one.report.fault)
    assert one.report.fault.startswith("memory_stuck: a generation")
    one.device.not_back_mib = 0
    await until(lambda: not one.report.fault)
    assert one.states() == {}


@pytest.mark.parametrize(
    "want, kind, error",
    [
        ({"model": "sh -c"}, FailureKind.PERMANENT, "unknown_model: "),
        ({"model": "a", "depth": "parked"}, FailureKind.HOST, "unknown_depth: this worker knows no 'parked'"),
        ({"model": "a", "depth": "loading"}, FailureKind.HOST, "unknown_depth: "),
        ({"model": "a", "key": ""}, FailureKind.HOST, "bad_key: "),
        ({"model": "a", "key": "two words"}, FailureKind.HOST, "bad_key: "),
        ({"model": "a", "key": "k\r\nX: y"}, FailureKind.HOST, "bad_key: "),
    ],
)
@virtually
async def test_what_cannot_be_started_is_refused_without_a_server(scene, want, kind, error):
    one = scene()
    await one.registered()
    one.generation += 1
    one.wants = {want["model"]: Want(**({"generation": one.generation, "key": "k"} | want))}
    one.write()
    await one.until_state(want["model"], "failed")
    assert one.of(want["model"]).failure is kind
    assert one.of(want["model"]).error.startswith(error)
    assert one.servers == []


@virtually
async def test_what_does_not_fit_beside_what_stays_is_refused_and_disturbs_nobody(scene):
    one = await with_ready(scene(), "a", "b")
    one.order("a", "b", "c")
    await one.until_state("c", "failed")
    assert one.of("c").failure is FailureKind.HOST
    assert one.of("c").error.startswith("no_memory: needs 400 MiB beside 800 MiB")
    await asyncio.sleep(60)
    assert one.states() == {"a": "ready", "b": "ready", "c": "failed"}


@virtually
async def test_nothing_is_prepared_while_a_load_wants_the_processor(scene):
    one = scene()
    one.driver.on_made = lambda server: setattr(server, "healthy", False)
    await one.registered()
    one.order("a")
    await one.until_state("a", "loading")
    before = one.driver.prepared
    assert before
    await asyncio.sleep(30)
    assert one.driver.prepared == before
    one.server_of("a").healthy = True
    await until(lambda: one.driver.prepared > before)


@virtually
async def test_a_crash_beside_another_model_asks_for_room(scene):
    one = await with_ready(scene(), "a")
    one.driver.on_made = lambda server: setattr(server, "healthy", False)
    one.order("a", "b")
    await one.until_state("b", "loading")
    one.server_of("b").die(1)
    await one.until_state("b", "failed")
    assert one.of("b").failure is FailureKind.ROOM


@pytest.mark.parametrize("stamp, kind", [("s1", FailureKind.PERMANENT), ("s2", FailureKind.PASSING)])
def test_who_dies_twice_in_the_same_way_is_given_up_unless_something_was_changed(scene, stamp, kind):
    one = scene()

    async def dies(turn):
        await one.inspector.look()
        assert one.inspector.of("a").stamp == turn

    async def load():
        await one.registered() if not one.servers else None
        one.wants.clear()
        one.order("a")
        await until(lambda: len(one.servers) == len(seen) + 1)
        await one.until_state("a", "loading")
        one.servers[-1].die(3)
        await one.until_state("a", "failed")
        seen.append(one.of("a").failure)

    seen = []

    async def twice():
        one.driver.on_made = lambda server: setattr(server, "healthy", False)
        await load()
        one.driver.stamps["a"] = stamp
        one.inspector._take_in({recipe.model: one.dispatcher.inspect(recipe) for recipe in one.models})
        await load()

    one.driver.stamps["a"] = "s1"
    asyncio.run(dies("s1"))
    virtually(twice)()
    assert seen == [FailureKind.PASSING, kind]


# ------------------------------------------------------------------------------------------------ while it is ready


@virtually
async def test_a_server_that_dies_after_it_was_ready_is_reported_at_once_as_fallen(scene):
    one = await with_ready(scene(), "a")
    await asyncio.sleep(100)
    died_s = now_s()
    one.server_of("a").die(1, "error: unknown argument")
    await one.until_state("a", "failed")
    assert now_s() == pytest.approx(died_s, abs=0.05)
    assert one.of("a").error.startswith("server_died: exited with status 1")
    assert one.of("a").failure is FailureKind.PASSING, "of a load these words would be permanent"
    assert one.store.rung[-1].residencies == one.report.residencies
    await asyncio.sleep(60)
    assert len(one.servers) == 1, "another load is the broker's decision"


@virtually
async def test_a_doubt_in_the_orders_is_looked_into(scene):
    one = await with_ready(scene(), "a")
    server = one.server_of("a")
    server.token = None
    one.generation += 1
    want = one.wants["a"]
    one.wants["a"] = Want(model="a", generation=want.generation, key=want.key, prove=1)
    one.write()
    await one.until_state("a", "failed")
    assert one.of("a").failure is FailureKind.USELESS
    assert not server.running


@virtually
async def test_processes_of_its_servers_are_the_slots_own(scene):
    one = await with_ready(scene(), "a", "b")
    assert one.supervisor.own_pids() == {server.pid for server in one.servers}
    assert one.report.foreign_mib == 0
    assert one.report.budget_mib == 1000


# ------------------------------------------------------------------------------------------------------ adoption


@virtually
async def test_adopted_servers_are_ready_in_the_first_report_and_start_no_second_time(scene):
    one = scene()
    server = one.left("a", 41)
    one.wants = {"a": Want(model="a", generation=41, key="key-41")}
    await one.registered()
    first, told = one.store.reports[0], one.store.reports[0].residencies[0]
    assert (told.model, told.state, told.url, told.generation) == ("a", "ready", server.url, 41)
    assert first.high_water == 41, "whoever was started for a generation has acted upon it"
    await asyncio.sleep(60)
    assert one.states() == {"a": "ready"}
    assert (server.started, len(one.servers), server.graces) == (0, 1, [])


@virtually
async def test_a_server_that_does_not_prove_itself_is_ended_and_not_adopted(scene):
    one = scene()
    one.left("a", 41).healthy = False
    one.left("b", 42)
    await one.supervisor.open()
    assert one.supervisor.ready_models() == {"b"}
    assert [server.graces for server in one.servers] == [[0.0], []]


@virtually
async def test_what_cannot_be_killed_at_the_start_is_the_slots_fault(scene):
    one = scene()
    one.driver.strays = StuckError("pid 7 survives SIGKILL")
    await one.registered()
    assert one.report.fault == "memory_stuck: pid 7 survives SIGKILL"


# ------------------------------------------------------------------------------------------------- whose slot it is


@virtually
async def test_a_superseded_worker_carries_out_nothing_more_and_ends(scene):
    one = scene()
    running = await one.registered()
    one.order("a")
    await one.until_state("a", "ready")
    reports = len(one.store.reports)
    one.write(boot="another", epoch=2, generation=one.generation + 1, wants=(Want(model="b", generation=9, key="k"),))
    assert await running is Ending.SUPERSEDED
    assert [server.launch.recipe.model for server in one.servers] == ["a"]
    await one.supervisor.stop_servers()
    assert one.servers[0].graces == [7.0]
    assert not one.servers[0].running
    assert len(one.store.reports) <= reports + 1, "its successor's report is not written over again and again"


@virtually
async def test_a_worker_whose_slot_another_host_has_keeps_quiet_and_gives_up_in_the_end(scene):
    one = scene(settings={"claim_wait_s": 12.0})
    running = await one.runs()
    one.write(boot="other", refused="me", holder="host2")
    began_s = now_s()
    assert await running is Ending.TAKEN
    assert one.supervisor.holder == "host2"
    assert 12 <= now_s() - began_s <= 12 + 4, "it looks every two seconds"
    assert len(one.store.reports) <= 2 + 12 / CLAIM_PAUSE_S
    assert one.servers == []


@virtually
async def test_a_refused_worker_sleeps_between_its_claims(scene):
    one = scene(settings={"claim_wait_s": 600.0})
    await one.runs()
    one.write(boot="other", refused="me", holder="host2")
    await asyncio.sleep(1)
    looks = one.device.looks
    await asyncio.sleep(100)
    assert one.device.looks - looks < 100, "it reads its orders every two seconds and asks every five"


@virtually
async def test_a_worker_that_is_stopped_lets_its_servers_run_on(scene):
    one = scene()
    running = await one.registered()
    one.order("a")
    await one.until_state("a", "ready")
    one.supervisor.stop()
    assert await running is Ending.STOPPED
    one.supervisor.let_go()
    await asyncio.sleep(60)
    assert one.servers[0].running
    assert one.servers[0].graces == []


@virtually
async def test_a_worker_that_is_being_stopped_begins_nothing(scene):
    one = scene()
    running = await one.registered()
    one.device.on_look = one.supervisor.stop
    one.order("a")
    assert await running is Ending.STOPPED
    assert one.report.high_water == one.generation, "the order was read"
    assert one.servers == []


# --------------------------------------------------------------------------------------------------------- store


@virtually
async def test_servers_run_on_while_the_store_is_away_and_orders_are_taken_up_again(scene, caplog):
    caplog.set_level("INFO", logger="gpu_worker")
    one = await with_ready(scene(), "a")
    one.store.away, before = True, len(one.store.reads)
    await asyncio.sleep(600)
    assert one.servers[0].running
    assert 250 <= len(one.store.reads) - before <= 310, "asked less and less often, every two seconds in the end"
    one.order("b")
    one.store.away = False
    back_s = now_s()
    await one.until_state("b", "ready")
    assert now_s() - back_s < 3
    said = [record.getMessage() for record in caplog.records]
    assert (said.count("store_lost"), said.count("store_back")) == (1, 1), "once, not at every attempt"


@virtually
async def test_an_order_is_read_when_the_ring_sounds_and_a_missed_ring_heals(scene):
    one = scene()
    await one.registered()
    await asyncio.sleep(0.5)
    rung_s = now_s()
    one.order("a")
    await asyncio.sleep(0.01)
    assert one.store.reads[-1] == pytest.approx(rung_s, abs=0.005)
    one.store.deaf = True
    one.order("b")
    missed_s = now_s()
    await one.until_state("b", "ready")
    assert now_s() - missed_s <= 2.1


@virtually
async def test_a_broker_is_rung_when_something_has_changed_and_not_at_every_beat(scene):
    one = await with_ready(scene(), "a")
    rung, beats = len(one.store.rung), one.report.beat
    await asyncio.sleep(30)
    assert len(one.store.rung) == rung
    assert 29 <= one.report.beat - beats <= 31
