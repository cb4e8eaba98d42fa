"""The table at the end of a chaos run."""

from collections import Counter
from collections.abc import Iterator, Sequence

from tests.chaos.run import Outcome


def table(outcome: Outcome) -> str:
    """What was done, what came of it."""
    return "\n".join(_lines(outcome))


def _lines(outcome: Outcome) -> Iterator[str]:
    events = Counter(entry.kind for entry in outcome.entries)
    reasons = Counter(entry.get("why") for entry in outcome.entries if entry.kind == "ended")
    uses = Counter(operation.outcome for operation in outcome.journal.operations if operation.kind == "use")
    yield ""
    yield f"seed {outcome.seed}: {sum(outcome.faults.values())} faults in {outcome.took_s:.0f} s"
    yield f"  faults       {_counted(outcome.faults)}"
    yield f"  hit during   {_counted(outcome.phases)}"
    yield f"  next grant   after a fault: {_spread(outcome.recovery_s)}"
    yield f"  leases       {events['granted']} granted; ended: {_counted(reasons)}"
    yield f"  waits        {_spread(outcome.journal.waits_s)}"
    yield f"  completions  {_counted(uses)}"
    yield f"  streams      {_counted(outcome.endings.counts)}"
    killed = [
        f"{one.broker} with {one.held} in use, {one.waiting} in line: {one.took_s:.1f} s" for one in outcome.burials
    ]
    yield f"  killed       {'; '.join(killed)}"
    yield f"  events       {_counted(events)}"
    yield f"  operations   {_counted(Counter(f'{one.kind} {one.outcome}' for one in outcome.journal.operations))}"
    yield f"  violations   {len(outcome.violations)}"


def _counted(counter: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counter.items(), key=lambda item: (-item[1], item[0])))


def _spread(values_s: Sequence[float]) -> str:
    if not values_s:
        return "none"
    return f"median {sorted(values_s)[len(values_s) // 2]:.1f} s, longest {max(values_s):.1f} s"
