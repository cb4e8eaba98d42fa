"""Judges a run from what it left behind: events, client histories, process samples.

Pure: no clock, no store, no process. Each judgement is a function from records to violations; ``judge`` runs them all.
"""

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from broker.core.lease import LeaseState
from harness.history.history_check import check_history
from harness.history.replay import Catalogue, Replay
from harness.history.trace import Entry, Operation, Sample, Violation


@dataclass(frozen=True, slots=True, kw_only=True)
class EndState:
    """What was found after the faults stopped and everything was shut down."""

    store_states: Mapping[str, str] = field(default_factory=dict)
    """Lease id to state, of every lease record the store still has."""
    queued: int = 0
    """``meta.queued``."""
    check: Sequence[str] = ()
    """What ``hotseat check`` complained about."""
    orphans: Sequence[str] = ()
    """Processes that outlived the shutdown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Everything there is to judge."""

    catalogue: Catalogue
    entries: Sequence[Entry]
    """The stream as it stands at the end."""
    witnessed: Sequence[Entry] = ()
    """Entries as a reader saw them while they happened."""
    operations: Sequence[Operation] = ()
    samples: Sequence[Sample] = ()
    calm_s: float = math.inf
    """From this moment on nothing went wrong any more, on the observer's clock."""
    end: EndState | None = None


def judge(run: Run) -> list[Violation]:
    """Every violation of a run, in the order of the checks."""
    replay = replayed(run.catalogue, run.entries)
    found = list(replay.violations)
    found += check_durable(run.witnessed, run.entries)
    found += check_history(run.operations, run.entries)
    found += check_fencing(run.operations, run.witnessed)
    found += check_calm(run.operations, run.calm_s)
    found += check_processes(run.catalogue, run.samples)
    if run.end is not None:
        found += check_end(run.end, replay)
    return found


def replayed(catalogue: Catalogue, entries: Iterable[Entry]) -> Replay:
    """A replay that has taken in every entry."""
    replay = Replay(catalogue)
    for entry in entries:
        replay.feed(entry)
    return replay


def check_durable(witnessed: Iterable[Entry], entries: Iterable[Entry]) -> list[Violation]:
    """Whatever a reader has seen was on disk (``appendfsync always``): it is still there, unchanged."""
    kept = {entry.event_id: (entry.seq, entry.kind, dict(entry.fields)) for entry in entries}
    found = []
    for entry in witnessed:
        now = kept.get(entry.event_id)
        if now is None:
            detail = f"{entry.kind} {entry.get('lease')} was seen and is gone"
            found.append(Violation(invariant="nothing_lost", subject=entry.event_id, detail=detail, seq=entry.seq))
        elif now != (entry.seq, entry.kind, dict(entry.fields)):
            detail = f"{entry.kind} was seen, now it is {now[1]}"
            found.append(Violation(invariant="nothing_lost", subject=entry.event_id, detail=detail, seq=entry.seq))
    return found


def check_fencing(operations: Iterable[Operation], witnessed: Iterable[Entry]) -> list[Violation]:
    """A request with the key of a load that is over is not answered.

    The load was over at the latest when a reader saw its residency become ``absent``; a request sent after that moment,
    with the endpoint of a lease that was granted on it, must not be answered.
    """
    load_of: dict[str, tuple[str, str, int]] = {}
    over_s: dict[tuple[str, str, int], float] = {}
    for entry in witnessed:
        load = (entry.get("slot"), entry.get("model"), entry.gen)
        if entry.kind == "granted":
            load_of[entry.get("lease")] = load
        elif entry.kind == "absent":
            over_s[load] = entry.seen_s
    found = []
    for operation in operations:
        if operation.kind != "use" or operation.outcome != "ok" or operation.lease not in load_of:
            continue
        load = load_of[operation.lease]
        if operation.invoke_s > over_s.get(load, math.inf):
            detail = f"answered on {load[1]} generation {load[2]}, which had been gone"
            found.append(Violation(invariant="old_keys_are_dead", subject=operation.lease, detail=detail))
    return found


def check_calm(operations: Iterable[Operation], calm_s: float) -> list[Violation]:
    """While nothing goes wrong the holder of an active lease gets its completion."""
    return [
        Violation(invariant="holders_are_served", subject=one.lease, detail=f"{one.model}: {one.detail}")
        for one in operations
        if one.kind == "use" and one.state == "active" and one.invoke_s >= calm_s and one.outcome != "ok"
    ]


def check_processes(catalogue: Catalogue, samples: Iterable[Sample]) -> list[Violation]:
    """At no moment do the model servers alive on a slot exceed its budget; one load is one set of equal keys."""
    found: list[Violation] = []
    told: set[frozenset[str]] = set()
    for sample in samples:
        for slot, budget_mib in catalogue.budget_mib.items():
            loads = {server.key: server for server in sample.servers if server.slot == slot}
            total = sum(catalogue.memory_mib[server.model] for server in loads.values())
            if total > budget_mib and frozenset(loads) not in told:
                told.add(frozenset(loads))
                names = ", ".join(f"{server.model} (pid {server.pid})" for server in loads.values())
                detail = f"{names} alive at {sample.at_s:.2f} s: {total} of {budget_mib} MiB"
                found.append(Violation(invariant="one_model_server", subject=slot, detail=detail))
    return found


def check_end(end: EndState, replay: Replay) -> list[Violation]:
    """After the faults: nobody waits, nothing runs, and the store's records are what the stream says."""

    def broken(invariant: str, subject: str, detail: str) -> Violation:
        return Violation(invariant=invariant, subject=subject, detail=detail)

    found = [broken("every_ticket_ends", lease.lease, f"{lease.model} still waits") for lease in replay.waiting()]
    if end.queued:
        found.append(broken("queue_empties", "meta.queued", str(end.queued)))
    found += [broken("check", "hotseat check", complaint) for complaint in end.check]
    found += [broken("no_orphan", process, "outlived the shutdown") for process in end.orphans]
    for lease_id, state in end.store_states.items():
        lease = replay.leases.get(lease_id)
        if lease is None:
            found.append(broken("records_match_events", lease_id, f"{state}, but no event speaks of it"))
        elif lease.state != state:
            found.append(broken("records_match_events", lease_id, f"{state}, by its events {lease.state}"))
    for lease in replay.leases.values():
        if lease.state is not LeaseState.ENDED and end.store_states and lease.lease not in end.store_states:
            found.append(broken("nothing_lost", lease.lease, f"{lease.state} by its events, no record"))
    return found


def granted_seconds(entries: Iterable[Entry], *, until_ms: int | None = None) -> dict[str, float]:
    """Seconds of ``use`` leases per session hash, from grant to end."""
    total: Counter[str] = Counter()
    since: dict[str, int] = {}
    last_ms = 0
    sessions: dict[str, str] = {}
    for entry in entries:
        last_ms = entry.at_ms
        lease = entry.get("lease")
        if entry.kind == "granted" and entry.get("intent") == "use":
            since[lease], sessions[lease] = entry.at_ms, entry.get("sh")
        elif entry.kind == "ended" and lease in since:
            total[sessions[lease]] += entry.at_ms - since.pop(lease)
    for lease, start_ms in since.items():
        total[sessions[lease]] += (last_ms if until_ms is None else until_ms) - start_ms
    return {session: milliseconds / 1000 for session, milliseconds in total.items()}


def jain_index(shares: Collection[float]) -> float:
    """(Σx)² / (n·Σx²): 1 when all get the same, 1/n when one gets everything.

    Source: Jain, Chiu, Hawe, DEC-TR-301 (1984).
    """
    if not shares or not any(shares):
        return 1.0
    return sum(shares) ** 2 / (len(shares) * sum(share * share for share in shares))
