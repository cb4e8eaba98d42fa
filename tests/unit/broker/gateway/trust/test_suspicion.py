"""How trust in a model is lost and won back."""

from dataclasses import replace
from itertools import count

import pytest

from broker.gateway.trust.suspicion import (
    TRANSITIONS,
    IllegalTrustEventError,
    Suspicion,
    SuspicionSettings,
    Trust,
    TrustEvent,
    after_bad,
    after_good,
    after_nothing,
    alarmed,
    canary_due,
    canary_failed,
    canary_passed,
    canary_sent,
    canary_silent,
    canary_void,
    condemned,
    healed,
    step,
)
from broker.gateway.trust.testimony import MAX_WITNESSES, RETRY_S, Complaint, RequestSource

SETTINGS = SuspicionSettings()
NUMBERS = count()
ACTS = {"p": canary_passed, "f": canary_failed, "v": canary_void, "s": canary_silent, "n": after_nothing}


def source(name: str) -> RequestSource:
    """A session of a party of its own, or ``party/session``."""
    return RequestSource(party=name.split("/", maxsplit=1)[0], session=name)


A, B = source("a"), source("b")


def complaint(of: RequestSource = A, request: str | None = None, asked_s: float = 0.0) -> Complaint:
    return Complaint(source=of, request=request or f"request-{next(NUMBERS)}", asked_s=asked_s)


def story(events: str, known: Suspicion = Suspicion(), *, start_s: float = 1000.0) -> Suspicion:  # noqa: B008 - frozen
    """g, b: a's good and bad answer; G, B: b's; n: nothing; c: canary sent, p: passed, f: failed, v: void, s: silent.

    One second between two.
    """
    for number, event in enumerate(events):
        now_s = max(start_s + number, known.since_s)
        of = A if event.islower() else B
        if event == "c":
            known = canary_sent(known, max(now_s, known.next_canary_s))
        elif event in "gG":
            known = after_good(known, of, now_s, SETTINGS)
        elif event in "bB":
            known = after_bad(known, complaint(of), now_s, SETTINGS)
        else:
            known = ACTS[event](known, now_s, SETTINGS)
    return known


@pytest.mark.parametrize(
    "events, state",
    [
        ("", Trust.TRUSTED),
        ("b", Trust.TRUSTED),
        ("bb", Trust.TRUSTED),  # nobody else has seen it
        ("bbbbbbbbbbbbbbbbbbbb", Trust.TRUSTED),
        ("bB", Trust.SUSPECT),
        ("bGB", Trust.TRUSTED),
        ("bGbB", Trust.SUSPECT),
        ("bBbBbBbBbB", Trust.SUSPECT),  # no number of bad answers condemns
        ("bBGGGG", Trust.TRUSTED),
        ("bBgggg", Trust.TRUSTED),
        ("bBc", Trust.CANARY),
        ("bbc", Trust.CANARY),
        ("bBcp", Trust.TRUSTED),
        ("bBcv", Trust.SUSPECT),
        ("bbcv", Trust.TRUSTED),
        ("bBcvcp", Trust.TRUSTED),
        ("bBcvcf", Trust.QUARANTINED),
        ("bbcf", Trust.QUARANTINED),
        ("bbcs", Trust.TRUSTED),
        ("bbcscs", Trust.QUARANTINED),
        ("bbcscvcs", Trust.TRUSTED),  # not in a row
        ("bbcscp", Trust.TRUSTED),
        ("bbcfcv", Trust.QUARANTINED),
        ("bbcfcs", Trust.QUARANTINED),
        ("bbcfcp", Trust.TRUSTED),
        ("bbcfcvcp", Trust.TRUSTED),
        ("bbcfgGgGgGgG", Trust.QUARANTINED),  # late answers of requests sent before
        ("bbcBB", Trust.CANARY),
        ("bbcBv", Trust.SUSPECT),
        ("p", Trust.TRUSTED),
        ("f", Trust.TRUSTED),
        ("s", Trust.TRUSTED),
    ],
)
def test_after_these_events_a_model_is(events, state):
    assert story(events).state is state


def test_what_one_session_has_seen_counts_for_it_alone():
    known = story("bbbb")
    assert not known.is_preferred_by(A, 1004.0, SETTINGS)
    assert known.is_preferred_by(B, 1004.0, SETTINGS)
    assert known.is_preferred_by(source("a/other"), 1004.0, SETTINGS)
    assert known.is_preferred_by(A, 1004.0 + SETTINGS.forget_s, SETTINGS)


def test_what_two_parties_agree_on_counts_for_all():
    known = story("bB")
    assert known.agreed
    assert not known.is_preferred_by(source("c"), 1002.0, SETTINGS)


def test_sessions_of_one_key_are_one_party():
    known = Suspicion()
    for number in range(20):
        known = after_bad(known, complaint(source(f"a/{number}")), 1000.0 + number, SETTINGS)
    assert (known.state, known.agreed) == (Trust.TRUSTED, False)
    assert after_bad(known, complaint(B), 1030.0, SETTINGS).state is Trust.SUSPECT


def test_a_lasting_share_of_failures_of_one_session_calls_for_a_canary_and_a_small_one_does_not():
    assert canary_due(story("bgg" * 10), 2000.0)
    assert not canary_due(story("bggggg" * 10), 2000.0)


def test_a_good_answer_takes_its_part_once_whoever_doubts():
    rules = SETTINGS.rules
    assert story("bB").said.in_common(rules) == 2.0
    assert story("bBG").said.in_common(rules) == 2.0 - SETTINGS.forgiveness
    known = after_good(story("bB"), source("c"), 1002.0, SETTINGS)
    assert known.said.in_common(rules) == 2.0 - SETTINGS.forgiveness


def test_good_answers_of_others_wash_away_what_is_said_in_common_and_not_what_a_session_has_seen():
    known = story("bb" + "G" * 8 + "B")
    assert known.state is Trust.TRUSTED, "one in ten, of two sessions"
    assert not known.is_preferred_by(A, 1011.0, SETTINGS)


@pytest.mark.parametrize("asked_s, own", [(1000.0 + RETRY_S - 0.1, 1.5), (1000.0 + RETRY_S, 2.0)])
def test_what_may_be_a_retry_is_no_second_witness_however_long_its_answer_takes(asked_s, own):
    settings = SuspicionSettings(suspect_at=10.0)
    known = after_bad(Suspicion(), complaint(A, "same", 999.0), 1000.0, settings)
    known = after_bad(known, complaint(A, "same", asked_s), 1100.0, settings)
    witness = known.said.of(A)
    assert (witness.doubt, witness.share) == (own, 1.0 if own < 2.0 else 2.0)


def test_the_same_request_of_two_sessions_is_no_retry():
    known = after_bad(Suspicion(), complaint(A, "same", 999.0), 1000.0, SETTINGS)
    assert after_bad(known, complaint(B, "same", 1000.0), 1001.0, SETTINGS).agreed


def test_bad_answers_far_apart_are_chance():
    known = after_bad(Suspicion(), complaint(), 0.0, SETTINGS)
    known = after_bad(known, complaint(), SETTINGS.forget_s, SETTINGS)
    assert not known.called
    assert not canary_due(known, 1e6)


def test_one_sessions_doubt_calls_for_a_canary_and_a_quarantined_model_waits_for_its_own():
    doubted = story("bb")
    assert doubted.serves
    assert canary_due(doubted, 1002.0)
    quarantined = story("bbcf")
    assert not quarantined.serves
    assert not canary_due(quarantined, quarantined.since_s + SETTINGS.quarantine_s - 1)
    assert canary_due(quarantined, quarantined.since_s + SETTINGS.quarantine_s)


def test_who_calls_for_nothing_waits_longer_each_time_and_nobody_else_does():
    known, now_s, pauses = Suspicion(), 1000.0, []
    for _ in range(4):
        while not canary_due(known, now_s):
            now_s += 1.0
            known = after_bad(known, complaint(A), now_s, SETTINGS)
        known = canary_passed(canary_sent(known, now_s), now_s, SETTINGS)
        pauses.append(known.said.of(A).silent_until_s - now_s)
        assert known.state is Trust.TRUSTED
        assert not known.is_preferred_by(A, now_s, SETTINGS), "it prefers another all the same"
    assert pauses == [60, 120, 240, 480]
    for _ in range(2):
        known = after_bad(known, complaint(B), now_s, SETTINGS)
    assert canary_due(known, now_s)


def test_a_model_that_passes_its_canary_is_trusted_by_all_and_must_be_doubted_anew():
    known = story("bBcp")
    assert not known.agreed
    assert known.is_preferred_by(source("c"), 1010.0, SETTINGS)
    assert after_bad(known, complaint(B), 1010.0, SETTINGS).state is Trust.TRUSTED


def test_a_model_in_quarantine_serves_nobody_while_its_canary_is_under_way():
    assert not story("bbcfc").serves
    assert story("bbc").serves


def test_where_nothing_is_heard_for_long_somebody_asks_and_the_less_often_the_more_it_was_right():
    known, now_s, asked = Suspicion(), 0.0, []
    for number in range(8 + 16 + 32):
        known = after_nothing(known, now_s, SETTINGS)
        if canary_due(known, now_s):
            known = canary_passed(canary_sent(known, now_s), now_s, SETTINGS)
            asked.append(number + 1)
    assert asked == [8, 24, 56]
    known = after_good(known, A, now_s, SETTINGS)
    assert known.is_as_new
    assert not story("nnnnnnngnnnnnnn").called


def test_the_pause_doubles_up_to_its_bound_and_starts_anew_after_recovery():
    known, pauses = story("bbcf"), []
    for _ in range(10):
        pauses.append(known.next_canary_s - known.since_s)
        known = canary_failed(canary_sent(known, known.next_canary_s), known.next_canary_s + 1, SETTINGS)
    assert pauses == [60, 120, 240, 480, 960, 1920, 3600, 3600, 3600, 3600]
    known = healed(known, 1e6)
    assert known == Suspicion(since_s=1e6)


def test_a_canary_that_shows_nothing_is_asked_again_later_each_time_until_the_bad_answers_are_forgotten():
    known, pauses = story("bB"), []
    while known.called:
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


def test_only_one_canary_is_under_way():
    testing = story("bbc")
    assert not canary_due(testing, 1e9)
    with pytest.raises(IllegalTrustEventError):
        canary_sent(testing, 1e9)


def test_a_server_that_died_under_everybody_is_quarantined_without_a_question():
    for events in ("", "bb", "bB", "bbc"):
        known = condemned(story(events), 2000.0, SETTINGS)
        assert (known.state, known.serves) == (Trust.QUARANTINED, False)
    before = story("bbcf")
    assert condemned(before, 2000.0, SETTINGS) == before


def test_an_alarm_calls_for_a_canary_once():
    known = alarmed(Suspicion(), 5.0)
    assert canary_due(known, 5.0)
    assert alarmed(known, 9.0) == known


def test_witnesses_are_bounded_and_who_sends_many_displaces_its_own():
    known = story("b")
    for number in range(3 * MAX_WITNESSES):
        known = after_bad(known, complaint(source(f"flood/{number}")), 1001.0, SETTINGS)
    assert len(known.said.witnesses) == MAX_WITNESSES
    assert known.said.of(A) is not None


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
