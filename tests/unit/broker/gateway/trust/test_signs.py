"""How long a model server may be silent: by its own times and by the size of the prompt; and who is suspected when."""

import asyncio

import pytest

from broker.core.errors import StaleDecisionError
from broker.core.lease import Intent, LeaseId, LeaseRecord, LeaseState, ModelName, Nonce, Priority, SessionHash, SlotId
from broker.gateway.trust.signs import LearnedPace, SignSettings, SignsOfLife, suspect_after_s

SETTINGS = SignSettings()
A = ModelName("a")


def lease_of(model=A):
    return LeaseRecord(
        lease_id=LeaseId("L"), nonce=Nonce("n"), session="s", session_hash=SessionHash("s"), model=model,
        intent=Intent.USE, holder="", priority=Priority.NORMAL, who="k", state=LeaseState.ACTIVE, reason="", arrival=1,
        position=0, waited_s=0.0, held_s=0.0, expires_in_s=60.0, ttl_s=60.0, expected_s=0.0, slot=SlotId("gpu0"),
        generation=7, base_url="", api_key="", residency="ready", progress=100, now_s=0.0,
    )  # fmt: skip


def pace(*seconds):
    learned = LearnedPace()
    for one in seconds:
        learned.learn(one)
    return learned


def test_nothing_known_is_long_and_longer_for_a_larger_prompt():
    assert suspect_after_s(None, 0, SETTINGS) == 60.0
    assert suspect_after_s(pace(0.1, 0.1), 0, SETTINGS) == 60.0, "two answers are not enough"
    assert suspect_after_s(None, 16_384, SETTINGS) == 180.0
    assert suspect_after_s(None, 10**9, SETTINGS) == SETTINGS.longest_s


def test_a_quick_model_is_suspect_soon_but_not_sooner_than_the_least():
    assert suspect_after_s(pace(*[0.2] * 9), 1000, SETTINGS) == 10.0
    assert suspect_after_s(pace(*[4.0] * 9), 0, SETTINGS) == pytest.approx(20.0)


def test_what_was_learned_on_small_prompts_does_not_condemn_large_ones():
    learned = pace(*[4.0] * 9)
    assert suspect_after_s(learned, 100_000, SETTINGS) > 12 * suspect_after_s(learned, 0, SETTINGS)


def test_who_varies_much_has_longer():
    steady, fitful = pace(*[4.0] * 20), pace(*[2.0, 6.0] * 10)
    assert suspect_after_s(fitful, 0, SETTINGS) > 1.5 * suspect_after_s(steady, 0, SETTINGS)


class Doubts:
    """Who was doubted, and why."""

    def __init__(self, error=None):
        self.told, self.error, self.first = [], error, asyncio.Event()

    async def __call__(self, lease, why):
        self.told.append((lease.model, why))
        self.first.set()
        if self.error:
            raise self.error


async def settle():
    for _ in range(3):
        await asyncio.sleep(0)


async def test_a_silent_request_is_a_suspicion_and_a_living_one_is_none():
    doubts = Doubts()
    signs = SignsOfLife(doubts, SignSettings(least_s=0.01, unknown_s=0.02, longest_s=1.0))
    signs.watch(lease_of(), 0, stream=True).stop()
    silent = signs.watch(lease_of(ModelName("b")), 0, stream=True)
    await asyncio.wait_for(doubts.first.wait(), 10)
    silent.stop()
    silent.stop()
    assert doubts.told == [("b", "no sign of life for 0 s")]


async def test_streams_and_whole_answers_are_learned_apart():
    signs = SignsOfLife(Doubts(), SETTINGS)
    for _ in range(5):
        signs.lived(A, 100, 0.2, stream=True)
        signs.lived(A, 100, 40.0, stream=False)
    waits = [signs.watch(lease_of(), 100, stream=stream) for stream in (True, False)]
    assert waits[0]._after_s == 10.0
    assert 190.0 < waits[1]._after_s < 210.0
    for one in waits:
        one.stop()


async def test_errors_in_a_row_are_a_suspicion_and_a_good_answer_between_them_is_none():
    doubts = Doubts()
    signs = SignsOfLife(doubts, SETTINGS)
    signs.failed(lease_of(), 500, b"image input is not supported")
    signs.lived(A, 10, 0.1, stream=False)
    signs.failed(lease_of(), 500, b"image input is not supported")
    for status in (400, 404, 429, 501, 502, 503, 504):
        signs.failed(lease_of(), status, b"out of memory")
    await settle()
    assert doubts.told == []
    signs.failed(lease_of(), 500, b"image input is not supported")
    await settle()
    assert doubts.told == [("a", "it answers 500")]


@pytest.mark.parametrize(
    "happens, why",
    [
        (
            lambda signs: signs.failed(lease_of(), 500, b'{"error":{"message":"CUDA error: out of memory"}}'),
            "it answers 500",
        ),
        (lambda signs: signs.unreachable(lease_of()), "it takes no connection"),
        (lambda signs: [signs.broke_off(lease_of()) for _ in range(2)], "it broke off answers"),
    ],
)
async def test_some_faults_are_a_suspicion_at_once(happens, why):
    doubts = Doubts()
    happens(SignsOfLife(doubts, SETTINGS))
    await settle()
    assert doubts.told == [("a", why)]


async def test_a_hundred_silent_requests_are_one_question_and_a_lost_one_harms_nobody():
    doubts = Doubts(StaleDecisionError("gone"))
    signs = SignsOfLife(doubts, SETTINGS)
    for _ in range(100):
        signs.suspect(lease_of(), "silent")
    signs.suspect(lease_of(ModelName("b")), "silent")
    await settle()
    assert [model for model, _ in doubts.told] == ["a", "b"]
