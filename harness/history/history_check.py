"""Holds what clients saw against the stream of events.

Every definite answer has its event with equal fields; an unknown outcome has at most one; and real time is respected:
what a client knew before an operation began comes, in the stream, before what the operation caused.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence

from harness.history.trace import Entry, Operation, Violation

Index = dict[str, list[Entry]]


def check_history(operations: Iterable[Operation], entries: Iterable[Entry]) -> list[Violation]:
    """All history checks."""
    history = sorted(operations, key=lambda operation: operation.invoke_s)
    by_lease: Index = defaultdict(list)
    for entry in entries:
        if entry.get("lease"):
            by_lease[entry.get("lease")].append(entry)
    return [
        *_check_answers(history, by_lease),
        *_check_unknown(history, by_lease),
        *_check_operations(history),
        *_check_real_time(history, by_lease),
    ]


def _broken(invariant: str, operation: Operation, detail: str) -> Violation:
    return Violation(invariant=invariant, subject=f"{operation.client} {operation.kind}", detail=detail)


# ------------------------------------------------------------------------------------- every answer has its event


def _check_answers(history: Sequence[Operation], by_lease: Index) -> list[Violation]:
    found = []
    for operation in history:
        if operation.outcome != "ok" or operation.kind == "use":
            continue
        entries = by_lease.get(operation.lease, [])
        if not entries:
            found.append(_broken("answers_have_events", operation, f"{operation.lease}: no event at all"))
            continue
        found += _check_fields(operation, entries)
        if (said := _unfounded(operation, entries)) is not None:
            found.append(_broken("answers_have_events", operation, f"{operation.lease}: {said}"))
    return found


def _check_fields(operation: Operation, entries: Sequence[Entry]) -> list[Violation]:
    first = entries[0]
    pairs = {"model": operation.model, "intent": operation.intent, "sh": operation.sh}
    return [
        _broken(
            "answers_have_events", operation, f"{operation.lease}: {name} {value}, its event says {first.get(name)}"
        )
        for name, value in pairs.items()
        if value and value != first.get(name)
    ]


def _unfounded(operation: Operation, entries: Sequence[Entry]) -> str | None:
    """What the answer claims and no event supports."""
    kinds = {entry.kind for entry in entries}
    if operation.state == "active" and "granted" not in kinds:
        return "answered active, never granted"
    if operation.state == "ending" and "ending" not in kinds:
        return "answered ending, never asked back"
    if operation.kind == "renew" and operation.state in {"active", "ending"} and "renewed" not in kinds:
        return "renewed without an event"
    if operation.state == "ended":
        reasons = {entry.get("why").partition(":")[0] for entry in entries if entry.kind == "ended"}
        if operation.reason.partition(":")[0] not in reasons:
            return f"answered ended ({operation.reason}), events say {sorted(reasons)}"
    elif operation.kind == "release":
        return f"a release answered {operation.state}"
    return None


# --------------------------------------------------------------------------- an unknown outcome happened once or not


def _check_unknown(history: Sequence[Operation], by_lease: Index) -> list[Violation]:
    """Leases nobody was told of are at most as many as acquires with an unknown outcome, per session and model."""
    told = {operation.lease for operation in history if operation.lease}
    sessions = {operation.sh for operation in history if operation.kind == "acquire"}
    unknown = Counter(
        (operation.sh, operation.model, operation.intent)
        for operation in history
        if operation.kind == "acquire" and operation.outcome == "unknown"
    )
    untold: Counter[tuple[str, str, str]] = Counter()
    for lease, entries in by_lease.items():
        first = entries[0]
        if lease not in told and first.get("sh") in sessions:
            untold[first.get("sh"), first.get("model"), first.get("intent")] += 1
    return [
        Violation(
            invariant="unknown_happened_at_most_once",
            subject=" ".join(key),
            detail=f"{count} leases nobody was told of, {unknown[key]} acquires without an answer",
        )
        for key, count in untold.items()
        if count > unknown[key]
    ]


def _check_operations(history: Sequence[Operation]) -> list[Violation]:
    """One idempotency key, one lease."""
    leases: dict[str, str] = {}
    found = []
    for operation in history:
        if operation.kind != "acquire" or not operation.operation or not operation.lease:
            continue
        first = leases.setdefault(operation.operation, operation.lease)
        if first != operation.lease:
            found.append(_broken("same_operation_same_lease", operation, f"{first}, then {operation.lease}"))
    return found


# ------------------------------------------------------------------------------------------------------ real time


def _check_real_time(history: Sequence[Operation], by_lease: Index) -> list[Violation]:
    """``a.return < b.invoke`` ⇒ ``seq(a) < seq(b)``: what was known before comes before what was caused later."""
    found = []
    returns = sorted((operation.return_s, _known_seq(operation, by_lease)) for operation in history)
    known, next_return = 0, 0
    for operation, caused in _caused(history, by_lease):
        while next_return < len(returns) and returns[next_return][0] < operation.invoke_s:
            known = max(known, returns[next_return][1])
            next_return += 1
        if caused and caused <= known:
            detail = f"{operation.lease}: caused seq {caused}, though {known} was known before it began"
            found.append(_broken("real_time_order", operation, detail))
    return found


def _known_seq(operation: Operation, by_lease: Index) -> int:
    """Sequence number of the event that its answer proves."""
    if operation.outcome != "ok" or operation.kind == "use":
        return 0
    kind = {"queued": "queued", "active": "granted", "ending": "ending", "ended": "ended"}[operation.state]
    return max((entry.seq for entry in by_lease.get(operation.lease, []) if entry.kind == kind), default=0)


def _caused(history: Sequence[Operation], by_lease: Index) -> Iterator[tuple[Operation, int]]:
    """Each operation with the sequence number of the event it made; 0 when an earlier one may have made it."""
    done: set[tuple[str, str]] = set()
    unanswered: set[tuple[str, str, str]] = set()
    for operation in history:
        key, about = (operation.kind, operation.lease), (operation.kind, operation.sh, operation.model)
        alone = operation.outcome == "ok" and key not in done and about not in unanswered
        yield operation, _made(operation, by_lease.get(operation.lease, [])) if alone else 0
        done.add(key)
        if operation.outcome == "unknown":
            unanswered.add(about)


def _made(operation: Operation, entries: Sequence[Entry]) -> int:
    if operation.kind == "acquire" and entries:
        return entries[0].seq
    if operation.kind == "release":
        ended = [entry for entry in entries if entry.kind == "ended"]
        by_client = {"released", "cancelled"}
        return max((entry.seq for entry in ended if entry.get("why").partition(":")[0] in by_client), default=0)
    return 0
