"""Trust under any sequence of events."""

from hypothesis import given
from hypothesis import strategies as st

from broker.answers.suspicion import (
    Suspicion,
    SuspicionSettings,
    Trust,
    after_bad,
    after_good,
    canary_due,
    canary_failed,
    canary_passed,
    canary_sent,
    canary_void,
    timed_out,
)

SETTINGS = SuspicionSettings()
ACTS = {
    "good": after_good,
    "bad": after_bad,
    "pass": canary_passed,
    "fail": canary_failed,
    "void": canary_void,
    "look": timed_out,
}
EVENTS = st.lists(st.tuples(st.sampled_from([*ACTS, "test"]), st.floats(0, 5000)), max_size=60)


def walk(events):
    known, now_s = Suspicion(), 0.0
    for event, pause_s in events:
        now_s += pause_s
        if event == "test":
            known = canary_sent(known, now_s) if canary_due(known, now_s) else known
        else:
            known = ACTS[event](known, now_s, SETTINGS)
        yield event, known, now_s


@given(EVENTS)
def test_it_serves_unless_it_was_quarantined_and_not_yet_healed(events):
    for _, known, _ in walk(events):
        if known.state in {Trust.TRUSTED, Trust.SUSPECT}:
            assert known.serves
        if known.state is Trust.QUARANTINED:
            assert not known.serves


@given(EVENTS)
def test_only_canaries_end_a_quarantine(events):
    served = True
    for event, known, _ in walk(events):
        if not served and known.serves:
            assert event == "pass"
        served = known.serves


@given(EVENTS)
def test_a_canary_that_shows_nothing_neither_condemns_nor_heals(events):
    before = Suspicion()
    for event, known, now_s in walk(events):
        if event == "void":
            assert known.serves == before.serves
            assert known.setbacks == before.setbacks
            assert known.state is not Trust.CANARY
            if known.state is Trust.TRUSTED and before.state is not Trust.TRUSTED:
                assert before.last_bad_s is None or now_s - before.last_bad_s >= SETTINGS.forget_s
        before = known


@given(EVENTS)
def test_every_model_finds_its_way_back(events):
    known, now_s = Suspicion(), 0.0
    for _, known, now_s in walk(events):  # noqa: B007 - the last ones are used
        pass
    for _ in range(8):
        known = timed_out(known, now_s, SETTINGS)
        if known.state is Trust.TRUSTED:
            return
        if known.state is not Trust.CANARY:
            now_s = max(now_s, known.next_canary_s)
            known = canary_sent(known, now_s)
        known = canary_passed(known, now_s, SETTINGS)
    raise AssertionError(known)
