"""What clients saw against what the stream says: each lie is found."""

from dataclasses import replace

import pytest

from harness.history.history_check import check_history
from harness.history.trace import Entry, Operation

FIELDS = {"model": "a", "intent": "use", "sh": "s1"}


def entry(seq: int, kind: str, lease: str, **fields: str) -> Entry:
    return Entry(seq=seq, kind=kind, at_ms=seq, fields={"lease": lease, **FIELDS, **fields})


EVENTS = [
    entry(1, "queued", "l1"),
    entry(2, "granted", "l1"),
    entry(3, "renewed", "l1"),
    entry(4, "ended", "l1", why="released"),
    entry(5, "queued", "l2"),
    entry(6, "granted", "l2"),
    entry(7, "ended", "l2", why="lost: server_died"),
]


def operation(kind: str, at_s: float, **rest: str) -> Operation:
    first = Operation(client="c1", kind=kind, invoke_s=at_s, return_s=at_s + 0.5, outcome="ok", lease="l1", sh="s1")
    return replace(first, model="a", **rest)


HISTORY = [
    operation("acquire", 1, state="queued", operation="op1"),
    operation("poll", 2, state="active"),
    operation("renew", 3, state="active"),
    operation("release", 4, state="ended", reason="released"),
    operation("acquire", 5, state="queued", operation="op2", lease="l2"),
    operation("poll", 6, state="active", lease="l2"),
    operation("release", 7, state="ended", reason="lost", lease="l2"),
]


def verdict(history: list[Operation], events: list[Entry] | None = None) -> set[str]:
    return {violation.invariant for violation in check_history(history, EVENTS if events is None else events)}


def test_an_honest_history_passes() -> None:
    assert verdict(HISTORY) == set()


def changed(number: int, **change: object) -> list[Operation]:
    return [*HISTORY[:number], replace(HISTORY[number], **change), *HISTORY[number + 1 :]]  # type: ignore[arg-type]


def without(*numbers: int) -> list[Entry]:
    return [event for event in EVENTS if event.seq not in numbers]


@pytest.mark.parametrize(
    "history,events",
    [
        (changed(0, lease="l9", operation=""), EVENTS),
        (changed(0, model="b"), EVENTS),
        (changed(0, intent="warm"), EVENTS),
        (changed(0, sh="s2"), EVENTS),
        (HISTORY, without(2)),
        (HISTORY, without(3)),
        (HISTORY, without(4)),
        (changed(1, state="ending"), EVENTS),
        (changed(3, reason="expired"), EVENTS),
        (changed(3, state="active"), EVENTS),
        (HISTORY, [*EVENTS[:6], entry(7, "ended", "l2", why="released")]),
    ],
)
def test_an_answer_without_its_event_is_told(history: list[Operation], events: list[Entry]) -> None:
    assert "answers_have_events" in verdict(history, events)


def test_an_unknown_acquire_may_have_happened_once() -> None:
    silent = operation("acquire", 8, outcome="unknown", lease="", operation="op3")
    once = [*EVENTS, entry(8, "queued", "l3")]
    assert verdict([*HISTORY, silent], once) == set()
    assert verdict([*HISTORY, silent], EVENTS) == set()
    assert verdict([*HISTORY, silent], [*once, entry(9, "queued", "l4")]) == {"unknown_happened_at_most_once"}
    assert verdict(HISTORY, once) == {"unknown_happened_at_most_once"}


def test_one_key_two_leases_is_told() -> None:
    assert verdict(changed(4, operation="op1")) == {"same_operation_same_lease"}


def test_a_stream_that_disagrees_with_real_time_is_told() -> None:
    swapped = [replace(event, seq={1: 5, 5: 1}.get(event.seq, event.seq)) for event in EVENTS]
    assert "real_time_order" in verdict(HISTORY, sorted(swapped, key=lambda event: event.seq))
    late_release = [replace(event, seq=8) if event.seq == 5 else event for event in EVENTS]
    assert verdict(HISTORY[:5], late_release) == set()


def test_concurrent_operations_may_come_in_any_order() -> None:
    overlapping = [replace(HISTORY[0], return_s=9.0), replace(HISTORY[4], invoke_s=0.5)]
    assert verdict(overlapping) == set()


def test_a_repeated_operation_proves_nothing_about_order() -> None:
    again = operation("acquire", 8, state="ended", reason="released", operation="op1")
    release_again = operation("release", 9, state="ended", reason="released")
    assert verdict([*HISTORY, again, release_again]) == set()
