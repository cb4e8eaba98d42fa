"""What is on the GPU while nobody waits, on a virtual clock: real scheduler, core and store; a simulated host."""

import asyncio

import pytest

from tests.simulation.quiet import Quiet, at_s, played, turns

pytestmark = pytest.mark.slow
AGENT, ONE_OFF = "agent", "one-off"


@pytest.mark.parametrize(
    "slow_s, fast_s, gap_s, count",
    [
        (15.0, 4.0, 2.0, 20),
        (4.0, 4.0, 2.0, 20),
        (4.0, 15.0, 2.0, 20),
        (60.0, 1.0, 0.5, 20),
        (15.0, 4.0, 20.0, 10),
        (4.0, 4.0, 20.0, 10),
        (15.0, 4.0, 90.0, 8),
    ],
)
def test_a_lone_agent_never_reloads_between_turns(slow_s, fast_s, gap_s, count):
    async def story(quiet: Quiet) -> None:
        await quiet.use(ONE_OFF, "slow")
        waits_s.extend(await turns(quiet, AGENT, "fast", count, gap_s))

    waits_s: list[float] = []
    quiet = played(story, load_s={"slow": slow_s, "fast": fast_s})
    assert len(quiet.loads("fast")) == 1
    assert len(quiet.loads("slow")) == 1
    assert max(waits_s[1:]) < 0.2


def test_a_lone_agent_reloads_once_per_foreign_request():
    async def story(quiet: Quiet) -> None:
        await turns(quiet, AGENT, "fast", 10, 2.0)
        for number in range(4):
            foreign = asyncio.create_task(quiet.use(f"{ONE_OFF}-{number}", "slow"))
            await turns(quiet, AGENT, "fast", 15, 2.0)
            await foreign

    quiet = played(story, load_s={"slow": 15.0, "fast": 4.0})
    assert len(quiet.loads("fast")) <= 1 + 4
    assert len(quiet.loads("slow")) == 4


OWNER = {"load_s": {"8b": 10.0, "32b": 25.0}, "entries": {"8b": {"is_default": True}}}
"""The owner's own numbers: an 8B default, a 32B on demand, back after five minutes."""


def test_the_default_is_loaded_at_the_start_and_stays():
    quiet = played(lambda _: asyncio.sleep(2 * 3600.0), **OWNER)
    assert [e.get("model") for e in quiet.loads()] == ["8b"]
    assert at_s(quiet.loads()[0]) < 10.0


@pytest.mark.parametrize("settings", [{}, {"idle_restore_s": 300.0}])
def test_the_default_comes_back_after_five_idle_minutes_and_stays_for_hours(settings):
    async def story(quiet: Quiet) -> None:
        await asyncio.sleep(20.0)
        await turns(quiet, "talk", "32b", 4, 40.0)
        left_s.append(quiet.now_s - 40.0)
        await asyncio.sleep(3 * 3600.0)

    left_s: list[float] = []
    quiet = played(story, **OWNER, **settings)
    idle = quiet.loads(after_s=left_s[0])
    assert [e.get("model") for e in idle] == ["8b"]
    assert 299.0 <= at_s(idle[0]) - left_s[0] <= 320.0


def test_an_idle_hour_sees_one_load_at_most():
    """Whatever was learned before: several sessions, unequal models, no default."""

    async def story(quiet: Quiet) -> None:
        for number in range(6):
            await turns(quiet, f"s{number}", ("a", "b", "c")[number % 3], 5, 8.0)
        ended_s.append(quiet.now_s)
        await asyncio.sleep(3 * 3600.0)

    ended_s: list[float] = []
    quiet = played(story, load_s={"a": 4.0, "b": 15.0, "c": 8.0})
    for hour in range(3):
        begun_s = ended_s[0] + 3600.0 * hour
        assert len([e for e in quiet.loads() if begun_s <= at_s(e) < begun_s + 3600.0]) <= 1


def test_a_default_that_somebody_else_uses_seldom_is_not_fetched_between_an_agents_turns():
    async def story(quiet: Quiet) -> None:
        await asyncio.sleep(20.0)
        await turns(quiet, "other", "8b", 3, 5.0)
        await turns(quiet, AGENT, "32b", 30, 100.0)

    quiet = played(story, **OWNER)
    assert len(quiet.loads("32b")) == 1


def test_a_warm_lease_fetches_its_model_and_the_default_comes_back_after_it():
    async def story(quiet: Quiet) -> None:
        await asyncio.sleep(20.0)
        await quiet.keep_warm("talk", "32b", 900.0)
        await asyncio.sleep(3600.0)

    quiet = played(story, **OWNER)
    assert [(e.get("model"), e.get("why")) for e in quiet.loads()] == [
        ("8b", "restore"),
        ("32b", "warm"),
        ("8b", "restore"),
    ]
    assert 920.0 <= at_s(quiet.loads()[2]) <= 950.0, "when the lease has expired"


def test_a_warm_lease_moves_nothing_between_an_agents_turns():
    async def story(quiet: Quiet) -> None:
        await turns(quiet, AGENT, "fast", 4, 2.0)
        await quiet.keep_warm("talk", "slow", 600.0)
        await turns(quiet, AGENT, "fast", 20, 10.0)
        ended_s.append(quiet.now_s - 10.0)
        await asyncio.sleep(90.0)

    ended_s: list[float] = []
    quiet = played(story, load_s={"slow": 15.0, "fast": 4.0})
    assert [(e.get("model"), e.get("why")) for e in quiet.loads()] == [("fast", "waiters"), ("slow", "warm")]
    assert at_s(quiet.loads()[1]) >= ended_s[0] + 60.0, "a minute after its last turn"


def test_a_warm_lease_beats_release_vram():
    async def story(quiet: Quiet) -> None:
        await quiet.use("talk", "a")
        await quiet.keep_warm("talk", "a", 600.0)
        await asyncio.sleep(500.0)
        seen.append(quiet.is_ready("a"))
        await asyncio.sleep(200.0)
        seen.append(quiet.is_ready("a"))

    seen: list[bool] = []
    played(story, load_s={"a": 4.0}, entries={"a": {"release_vram_after_s": 60.0}})
    assert seen == [True, False]
