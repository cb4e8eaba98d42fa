"""How trust in a model is lost and won back."""

from dataclasses import replace

import pytest

from broker.answers.canary import Finding, canary_for, finding_of, proves_health
from broker.answers.suspicion import (
    TRANSITIONS,
    IllegalTrustEventError,
    Suspicion,
    SuspicionSettings,
    Trust,
    TrustEvent,
    after_bad,
    after_good,
    canary_due,
    canary_failed,
    canary_passed,
    canary_sent,
    canary_void,
    healed,
    step,
    timed_out,
)
from broker.answers.verdict import Expected, Shape
from broker.answers.watcher import Watcher
from tests.unit.broker.answers.answering import delta, judged, sse

SETTINGS = SuspicionSettings()


def story(events: str, known: Suspicion = Suspicion(), *, start_s: float = 1000.0) -> Suspicion:  # noqa: B008 - frozen
    """g: good answer, b: bad, c: canary sent, p: it passed, f: it failed, v: void; one second between two."""
    for number, event in enumerate(events):
        now_s = start_s + number
        if event == "c":
            known = canary_sent(known, max(now_s, known.next_canary_s))
            continue
        act = {"g": after_good, "b": after_bad, "p": canary_passed, "f": canary_failed, "v": canary_void}[event]
        known = act(known, max(now_s, known.since_s), SETTINGS)
    return known


@pytest.mark.parametrize(
    "events, state",
    [
        ("", Trust.TRUSTED),
        ("b", Trust.TRUSTED),
        ("bgb", Trust.TRUSTED),
        ("bb", Trust.SUSPECT),
        ("bgbgb", Trust.SUSPECT),
        ("bgggggbgggggbgggggb", Trust.TRUSTED),  # every sixth answer is bad: less than forgiveness takes off
        ("bbgggg", Trust.TRUSTED),
        ("bbbbb", Trust.QUARANTINED),
        ("bbc", Trust.CANARY),
        ("bbcp", Trust.TRUSTED),
        ("bbcv", Trust.SUSPECT),
        ("bbcvcp", Trust.TRUSTED),
        ("bbcvcf", Trust.QUARANTINED),
        ("bbcfcv", Trust.QUARANTINED),
        ("bbcfcpcvcp", Trust.TRUSTED),
        ("bbcf", Trust.QUARANTINED),
        ("bbcgggg", Trust.TRUSTED),
        ("bbcbbb", Trust.QUARANTINED),
        ("bbcfcp", Trust.QUARANTINED),
        ("bbcfcpcp", Trust.TRUSTED),
        ("bbcfcpcfcp", Trust.QUARANTINED),
        ("bbcfgggggggg", Trust.QUARANTINED),  # late answers of requests sent before
        ("p", Trust.TRUSTED),
        ("f", Trust.TRUSTED),
    ],
)
def test_after_these_events_a_model_is(events, state):
    assert story(events).state is state


def test_a_lasting_share_of_failures_makes_it_suspect():
    assert story("bgg" * 10).state is not Trust.TRUSTED


def test_bad_answers_far_apart_are_chance():
    known = after_bad(Suspicion(), 0.0, SETTINGS)
    known = after_bad(known, SETTINGS.forget_s, SETTINGS)
    assert known.state is Trust.TRUSTED


def test_a_suspect_serves_and_is_tested_at_once_a_quarantined_model_does_not_serve():
    suspect = story("bb")
    assert suspect.serves
    assert not suspect.preferred
    assert canary_due(suspect, suspect.since_s)
    quarantined = story("bbcf")
    assert not quarantined.serves
    assert not canary_due(quarantined, quarantined.since_s + SETTINGS.quarantine_s - 1)
    assert canary_due(quarantined, quarantined.since_s + SETTINGS.quarantine_s)


def test_a_model_in_quarantine_serves_nobody_while_its_canary_is_under_way():
    assert not story("bbcfc").serves
    assert story("bbc").serves


def test_the_pause_doubles_up_to_its_bound_and_starts_anew_after_recovery():
    known, pauses = story("bbcf"), []
    for _ in range(10):
        pauses.append(known.next_canary_s - known.since_s)
        known = canary_failed(canary_sent(known, known.next_canary_s), known.next_canary_s + 1, SETTINGS)
    assert pauses == [60, 120, 240, 480, 960, 1920, 3600, 3600, 3600, 3600]
    known = healed(known, 1e6)
    assert known == Suspicion(since_s=1e6)


def test_a_canary_that_shows_nothing_is_asked_again_later_each_time_until_the_bad_answers_are_forgotten():
    known, pauses = story("bb"), []
    while known.state is not Trust.TRUSTED:
        pauses.append(known.next_canary_s - known.since_s)
        known = canary_void(canary_sent(known, known.next_canary_s), known.next_canary_s, SETTINGS)
    assert pauses == [0, 60, 120, 240, 480]
    assert known == Suspicion(since_s=known.since_s)


def test_a_quarantine_is_no_longer_for_a_canary_that_shows_nothing():
    known, pauses = story("bbcf"), []
    for _ in range(3):
        known = canary_void(canary_sent(known, known.next_canary_s), known.next_canary_s, SETTINGS)
        pauses.append(known.next_canary_s - known.since_s)
    assert (pauses, known.setbacks) == ([60, 120, 240], 1)
    assert canary_failed(canary_sent(known, known.next_canary_s), known.next_canary_s, SETTINGS).voids == 0


def test_a_canary_without_a_result_has_failed():
    testing = story("bbc")
    assert timed_out(testing, testing.since_s + SETTINGS.canary_timeout_s - 1, SETTINGS) == testing
    late = timed_out(testing, testing.since_s + SETTINGS.canary_timeout_s, SETTINGS)
    assert late.state is Trust.QUARANTINED


def test_only_one_canary_is_under_way():
    testing = story("bbc")
    assert not canary_due(testing, 1e9)
    with pytest.raises(IllegalTrustEventError):
        canary_sent(testing, 1e9)


@pytest.mark.parametrize("state", Trust)
@pytest.mark.parametrize("event", TrustEvent)
def test_the_table_says_all(state, event):
    if event in TRANSITIONS[state]:
        assert step(state, event) is TRANSITIONS[state][event]
    else:
        with pytest.raises(IllegalTrustEventError, match=state):
            step(state, event)


def test_every_state_can_be_healed():
    for state in Trust:
        assert healed(replace(Suspicion(), state=state), 1.0).state is Trust.TRUSTED


@pytest.mark.parametrize(
    "kind, path, shape",
    [
        ("chat", "/chat/completions", Shape.CHAT),
        ("completion", "/completions", Shape.TEXT),
        ("embedding", "/embeddings", Shape.WHOLE),
    ],
)
def test_the_canary_fits_the_kind_of_model(kind, path, shape):
    canary = canary_for(kind, "served", names=("m",))
    assert (canary.path, canary.expected.shape, canary.expected.models) == (path, shape, ("m",))
    assert b'"model":"served"' in canary.body


def test_reasoning_cut_short_is_a_sign_of_life_and_silence_is_not():
    assert proves_health(judged(sse(delta(reasoning="hm"), delta(finish="length")), Shape.CHAT))
    assert not proves_health(judged(sse(delta(finish="stop")), Shape.CHAT))


@pytest.mark.parametrize(
    "status, body, finding",
    [
        (400, b'{"error": {"message": "this model does not chat"}}', Finding.VOID),
        (401, b"", Finding.VOID),
        (404, b'{"detail": "Not Found"}', Finding.VOID),
        (404, b'{"message": "The Model `x` does not exist."}', Finding.FAILED),
        (429, b"", Finding.VOID),
        (500, b"", Finding.FAILED),
        (503, b"", Finding.FAILED),
        (200, b'{"choices": [{"message": {"content": "ready"}}]}', Finding.PASSED),
    ],
)
def test_who_does_not_take_the_question_has_shown_nothing_but_who_does_not_know_its_model_has_failed(
    status, body, finding
):
    watcher = Watcher(Expected(shape=Shape.CHAT))
    watcher.begin(status, [(b"content-type", b"application/json")], 0.0)
    watcher.feed(body, 0.0)
    assert finding_of(status, body, watcher.end(0.0)) is finding
    assert finding_of(200, b"", judged(sse(delta(finish="stop")), Shape.CHAT)) is Finding.FAILED
