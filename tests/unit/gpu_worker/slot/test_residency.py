"""One residency through its life, beside servers in memory: what is said of it, and when."""

import asyncio

import pytest

from gpu_worker.drivers.dispatcher import Dispatcher
from gpu_worker.drivers.failing import Around, Failing
from gpu_worker.drivers.port import Launch, LoadError
from gpu_worker.host.listeners import StrangerError
from gpu_worker.host.memory import MemorySettings, SlotMemory
from gpu_worker.host.nvml import DeviceProcess
from gpu_worker.slot.clock import now_s
from gpu_worker.slot.reconcile import Resident
from gpu_worker.slot.residency import Care, SlotResidency
from schemas.messages import FailureKind
from schemas.residency import Residency
from tests.fakes.slot_scene import FOOTPRINT_MIB, SLOT, MemoryDevice, MemoryDriver, recipe_of, until
from tests.simulation.virtual import virtually

KEY = "key-7"
CARE = {"probe_interval_s": 5.0, "probe_timeout_s": 10.0, "probe_failures": 3, "memory_timeout_s": 10.0}


class Scene:
    """A residency of model ``a``, generation 7, its server and its device."""

    def __init__(self, around=None, **care):
        self.driver = MemoryDriver()
        self.device = MemoryDevice(self.driver)
        launch = Launch(slot=SLOT, recipe=recipe_of("a", load_timeout_s=60.0), generation=7, key=KEY)
        self.server = self.driver.server(launch)
        self.memory = SlotMemory(MemorySettings(), self.device, self.server.pids)
        self.changes = []
        self.ended_as = []
        self.residency = SlotResidency(
            Dispatcher({"process": self.driver}),
            self.server,
            Resident(model="a", generation=7, depth=Residency.LOADING),
            Care(connect=self.driver.connect, **(CARE | care)),
            self.memory,
            lambda how: self.ended_as.append(how) or around or Around(),
        )
        self.residency.on_change = lambda: self.changes.append((now_s(), self.residency.depth))

    @property
    def report(self):
        return self.residency.report()

    async def ready(self):
        self.residency.load(now_s())
        await self.until(Residency.READY)
        return self

    async def until(self, depth):
        await until(lambda: self.residency.depth is depth)

    async def until_gone(self):
        await until(lambda: self.residency.gone)


# ---------------------------------------------------------------------------------------------------------- load


@virtually
async def test_a_server_that_is_not_healthy_yet_is_loading_and_no_client_hears_where_it_is():
    scene = Scene()
    scene.server.healthy = False
    scene.residency.load(now_s())
    await asyncio.sleep(50)
    assert (scene.report.state, scene.report.url, scene.report.took_ms) == (Residency.LOADING, "", 0)


@virtually
async def test_a_load_takes_from_its_order_to_the_first_token():
    scene = Scene()
    scene.server.healthy = False
    await asyncio.sleep(2)
    scene.residency.load(now_s() - 2.0)
    await asyncio.sleep(10)
    scene.server.healthy = True
    await scene.until(Residency.READY)
    assert (scene.report.state, scene.report.url, scene.report.progress) == ("ready", scene.server.url, 100)
    assert 12_000 <= scene.report.took_ms <= 12_600, "polls are 2 % of the load apart, half a second at most"
    assert [path for path, _ in scene.server.questions][-3:] == ["/health", "/v1/models", "/v1/completions"]


@virtually
async def test_every_question_bears_the_key_of_this_load():
    scene = await Scene().ready()
    await asyncio.sleep(20)
    assert {bearer for _, bearer in scene.server.questions} == {f"Authorization: Bearer {KEY}"}


@virtually
async def test_a_stranger_on_the_port_hears_nothing_and_is_the_hosts_doing():
    scene = Scene()
    scene.server.stranger = StrangerError("pid 9 listens there")
    scene.residency.load(now_s())
    await scene.until(Residency.FAILED)
    assert scene.server.questions == []
    assert (scene.report.error, scene.report.failure) == ("port_taken: pid 9 listens there", FailureKind.HOST)


@pytest.mark.parametrize(
    "trouble, kind, error",
    [
        ({"failure": LoadError("no_program: x", Failing.PERMANENT)}, FailureKind.PERMANENT, "no_program: x"),
        ({"failure": OSError("no room")}, FailureKind.HOST, "no room"),
        ({"offers": "b"}, FailureKind.PERMANENT, "wrong_model: the server offers b"),
        ({"token": ""}, FailureKind.PASSING, "no_token: status 200"),
        ({"status": 500}, FailureKind.PASSING, "no_token: status 500"),
        ({"healthy": False}, FailureKind.PASSING, "load_timeout: not ready after 60 s"),
        ({"token": None}, FailureKind.PASSING, "load_timeout: not ready after 60 s"),
    ],
)
@virtually
async def test_a_failed_load_says_its_kind_and_its_reason_and_leaves_nothing(trouble, kind, error):
    scene = Scene()
    for name, value in trouble.items():
        setattr(scene.server, name, value)
    scene.residency.load(now_s())
    await scene.until(Residency.FAILED)
    assert (scene.report.failure, scene.report.url) == (kind, "")
    assert scene.report.error.startswith(error)
    assert scene.server.graces == [0.0], "there is nothing in it to save"
    assert not scene.server.running


@virtually
async def test_a_start_that_does_not_return_fails_when_the_time_of_the_load_is_up():
    scene = Scene()
    scene.server.may_start.clear()
    scene.residency.load(now_s())
    await scene.until(Residency.FAILED)
    assert (scene.report.error, scene.report.failure) == ("load_timeout: not started after 60 s", FailureKind.PASSING)
    assert now_s() == pytest.approx(60, abs=0.1)
    assert not scene.server.running


@pytest.mark.parametrize(
    "status, words, around, kind",
    [
        (1, "error: unknown argument: --x", Around(), FailureKind.PERMANENT),
        (-9, "", Around(), FailureKind.PASSING),
        (1, "CUDA out of memory", Around(neighbours=("b",)), FailureKind.ROOM),
        (3, "", Around(again=True), FailureKind.PERMANENT),
    ],
)
@virtually
async def test_a_server_that_dies_while_it_loads_is_told_with_its_last_words(status, words, around, kind):
    scene = Scene(around)
    scene.server.healthy = False
    scene.residency.load(now_s())
    await asyncio.sleep(3)
    scene.server.die(status, words)
    await scene.until(Residency.FAILED)
    assert now_s() == pytest.approx(3, abs=0.1), "at once, not when the time of the load is up"
    assert scene.report.failure is kind
    assert scene.report.error.startswith("server_died: ")
    assert scene.report.error.endswith(words)
    assert scene.ended_as == [scene.report.error.removesuffix(f"; {words}")]


@virtually
async def test_a_server_that_dies_with_its_first_token_is_dead_and_was_never_ready():
    scene = Scene()
    scene.server.on_question = lambda path: scene.server.die(1) if path == "/v1/completions" else None
    scene.residency.load(now_s())
    await scene.until(Residency.FAILED)
    assert Residency.READY not in [depth for _, depth in scene.changes]
    assert scene.report.error == "server_died: exited with status 1"


@virtually
async def test_what_nobody_foresaw_is_a_failed_load_of_the_host_and_not_silence():
    scene = Scene()
    scene.server.failure = RuntimeError("who would have thought")
    scene.residency.load(now_s())
    await scene.until(Residency.FAILED)
    assert scene.report.error == "internal: RuntimeError: who would have thought"
    assert scene.report.failure is FailureKind.HOST
    assert scene.changes[-1][1] is Residency.FAILED, "its supervisor is woken"


@virtually
async def test_a_failure_is_told_within_a_second_though_its_server_cannot_be_killed():
    scene = Scene()
    scene.server.failure, scene.server.stuck = LoadError("x", Failing.HOST), 5
    scene.residency.load(now_s())
    await scene.until(Residency.FAILED)
    assert now_s() == pytest.approx(1, abs=0.1)
    assert scene.residency.fault.startswith("memory_stuck: a generation 7: ")
    await asyncio.sleep(10)
    assert scene.residency.fault == "", "it was tried again until it worked"
    assert len(scene.server.graces) == 6


# -------------------------------------------------------------------------------------------------------- unload


@virtually
async def test_a_ready_server_is_given_its_grace_and_is_gone():
    scene = await Scene().ready()
    scene.residency.unload()
    assert scene.report.state is Residency.UNLOADING
    await scene.until_gone()
    assert scene.server.graces == [7.0]


@pytest.mark.parametrize("starts", [True, False])
@virtually
async def test_a_cancelled_load_ends_its_server_at_once_and_never_becomes_ready(starts):
    scene = Scene()
    scene.server.healthy = False
    if not starts:
        scene.server.may_start.clear()
    scene.residency.load(now_s())
    await asyncio.sleep(3)
    assert scene.server.running
    scene.residency.unload()
    scene.server.healthy = True
    scene.server.may_start.set()
    await scene.until_gone()
    assert scene.server.graces == [0.0]
    await asyncio.sleep(100)
    assert Residency.READY not in [depth for _, depth in scene.changes]
    assert scene.residency.error == ""


@virtually
async def test_an_unload_waits_until_the_memory_is_back():
    scene = await Scene().ready()
    scene.device.not_back_mib = FOOTPRINT_MIB
    scene.residency.unload()
    await asyncio.sleep(9)
    assert not scene.server.running
    assert (scene.residency.gone, scene.residency.fault) == (False, "")
    scene.device.not_back_mib = 0
    await scene.until_gone()
    assert now_s() == pytest.approx(9, abs=0.2)


@virtually
async def test_memory_that_does_not_come_back_is_the_slots_fault_until_it_does():
    scene = await Scene().ready()
    scene.device.not_back_mib = FOOTPRINT_MIB
    scene.residency.unload()
    await asyncio.sleep(3600)
    assert not scene.residency.gone, "nothing may be loaded where memory is missing"
    assert scene.residency.fault == "memory_stuck: a generation 7: the device's memory did not come back"
    assert [when for when, depth in scene.changes if depth is Residency.UNLOADING] == [pytest.approx(10, abs=0.2)]
    scene.device.not_back_mib = 0
    await scene.until_gone()
    assert scene.residency.fault == ""


@virtually
async def test_memory_that_was_nobodys_before_the_load_is_not_waited_for():
    scene = Scene()
    scene.device.not_back_mib = 300
    await scene.ready()
    scene.residency.unload()
    await scene.until_gone()
    assert now_s() < 1


@pytest.mark.parametrize("dies", [False, True])
@virtually
async def test_a_process_of_the_server_that_still_holds_memory_is_waited_for(dies):
    scene = await Scene().ready()
    if dies:
        scene.residency.measure(await scene.memory.look())
        scene.server.die(-9)
    scene.device.strangers = (DeviceProcess(pid=scene.server.pid, used_mib=50),)
    scene.residency.unload()
    await asyncio.sleep(5)
    assert not scene.residency.gone
    scene.device.strangers = ()
    await scene.until_gone()


@virtually
async def test_a_server_that_cannot_be_killed_is_tried_again_and_not_gone_before():
    scene = await Scene().ready()
    scene.server.stuck = 3
    scene.residency.unload()
    await asyncio.sleep(2.5)
    assert not scene.residency.gone
    assert scene.residency.fault == f"memory_stuck: a generation 7: pid {scene.server.pid} survives SIGKILL"
    await scene.until_gone()
    assert scene.residency.fault == ""


# ------------------------------------------------------------------------------------------------- while it is ready


@virtually
async def test_a_server_that_dies_when_it_was_ready_has_fallen_and_is_no_failed_load():
    scene = await Scene(Around(again=True)).ready()
    await asyncio.sleep(100)
    scene.server.die(1, "error: unknown argument")
    await scene.until(Residency.FAILED)
    assert now_s() == pytest.approx(100, abs=0.2), "at once, not at the next probe"
    assert scene.report.failure is FailureKind.PASSING, "of a load these words would be permanent"
    assert scene.report.error == "server_died: exited with status 1; error: unknown argument"
    assert scene.report.url == ""


@virtually
async def test_a_hung_server_is_killed_after_its_probes_in_a_row():
    scene = await Scene().ready()
    scene.server.healthy = False
    await asyncio.sleep(14.9)
    assert scene.report.state is Residency.READY
    await scene.until(Residency.FAILED)
    assert now_s() == pytest.approx(15, abs=0.2)
    assert scene.report.failure is FailureKind.USELESS
    assert scene.report.error == "server_hung: health says 503"
    await asyncio.sleep(1)
    assert scene.server.graces == [0.0]


@virtually
async def test_probes_that_fail_now_and_then_cost_no_server_its_life():
    scene = await Scene().ready()
    for _ in range(20):
        scene.server.healthy = False
        await asyncio.sleep(10)
        scene.server.healthy = True
        await asyncio.sleep(5)
    assert scene.report.state is Residency.READY


@virtually
async def test_a_doubted_server_that_gives_a_token_stays_and_is_asked_once_for_each_doubt():
    scene = await Scene(probe_interval_s=1000).ready()
    scene.server.questions.clear()
    for number in (1, 1, 1, 2):
        scene.residency.prove(number)
        await asyncio.sleep(20)
    assert [path for path, _ in scene.server.questions] == ["/v1/chat/completions"] * 2
    assert scene.report.state is Residency.READY


@pytest.mark.parametrize("worked_s, state", [(0.0, Residency.FAILED), (5.0, Residency.READY), (None, Residency.READY)])
@virtually
async def test_a_doubted_server_is_lost_only_when_it_is_proved_that_it_does_nothing(worked_s, state):
    scene = await Scene(prove_timeout_s=15.0).ready()
    scene.server.token = None
    scene.residency.prove(1)
    await asyncio.sleep(1)
    scene.server.worked = worked_s
    await asyncio.sleep(20)
    assert scene.report.state is state
    if state is Residency.FAILED:
        assert scene.report.failure is FailureKind.USELESS
        assert scene.report.error.startswith("server_useless: no token within 15 s")
        assert not scene.server.running


@virtually
async def test_whoever_doubts_a_server_that_loads_still_does_not_disturb_it():
    scene = Scene()
    scene.server.healthy = False
    scene.residency.load(now_s())
    scene.residency.prove(1)
    await asyncio.sleep(5)
    assert {path for path, _ in scene.server.questions} == {"/health"}


@virtually
async def test_a_server_that_is_let_go_of_runs_on_and_is_asked_nothing_more():
    scene = await Scene().ready()
    scene.residency.let_go()
    scene.server.questions.clear()
    await asyncio.sleep(100)
    assert scene.server.running
    assert (scene.server.graces, scene.server.questions) == ([], [])


# ------------------------------------------------------------------------------------------------------- adoption


@virtually
async def test_an_adopted_server_is_ready_without_a_start():
    scene = Scene()
    scene.server.running = True
    assert await scene.residency.adopt()
    assert (scene.report.state, scene.report.url) == (Residency.READY, scene.server.url)
    assert scene.server.started == 0
    scene.server.die(-11)
    await scene.until(Residency.FAILED)
    assert scene.report.error == "server_died: killed by SIGSEGV", "it is watched as any other"


@pytest.mark.parametrize("trouble", [{"healthy": False}, {"token": None}, {"offers": "b"}, {"running": False}])
@virtually
async def test_a_server_that_does_not_prove_itself_in_time_is_not_adopted(trouble):
    scene = Scene(adopt_timeout_s=5.0)
    for name, value in ({"running": True} | trouble).items():
        setattr(scene.server, name, value)
    assert not await scene.residency.adopt()
    assert now_s() <= 5.1
    assert scene.report.state is Residency.LOADING
    assert scene.residency.error


@virtually
async def test_a_footprint_that_flutters_is_not_told_anew():
    scene = await Scene().ready()
    told = []
    for more_mib in (0, 16, -16, 17):
        recipe = recipe_of("a", memory_mib=FOOTPRINT_MIB + more_mib)
        scene.server._launch = Launch(slot=SLOT, recipe=recipe, generation=7, key=KEY)
        scene.residency.measure(await scene.memory.look())
        told.append(scene.report.memory_mib)
    assert told == [FOOTPRINT_MIB] * 3 + [FOOTPRINT_MIB + 17]
