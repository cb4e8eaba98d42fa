"""What came out: waits and delays per class, loads, and paired ratios over instances."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from broker.core.lease import Priority
from simulator.world import WEIGHTS, Job, World


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value at this share of the sorted values (nearest rank); 0 for none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, math.ceil(share * len(ordered)) - 1))] if ordered else 0.0


def mean(values: Iterable[float]) -> float:
    """Return the arithmetic mean; 0 for none."""
    found = list(values)
    return sum(found) / len(found) if found else 0.0


@dataclass(frozen=True)
class Outcome:
    """What came out for one policy on one instance, seconds."""

    jobs: int
    weighted_delay: float
    weighted_wait: float
    mean: float
    interactive: float
    interactive_p95: float
    background: float
    first_turn: float
    """Wait of interactive sessions' first turns: somebody looks at the screen."""
    first_turn_all: float
    p50: float
    p95: float
    p99: float
    worst: float
    loads_per_100: float
    preemptions: int
    loads_per_idle_hour: float = 0.0
    """How many loads there were per hour in the hours in which nobody asked for or used anything."""


def outcome(world: World, jobs: Sequence[Job]) -> Outcome:
    """Sum up a finished run."""
    weight = sum(WEIGHTS[job.priority] for job in jobs)
    waits = [job.wait_s for job in jobs]
    interactive = [job.wait_s for job in jobs if job.priority is Priority.INTERACTIVE]
    return Outcome(
        jobs=len(jobs),
        weighted_delay=sum(WEIGHTS[job.priority] * job.delay_s for job in jobs) / max(weight, 1e-9),
        weighted_wait=sum(WEIGHTS[job.priority] * job.wait_s for job in jobs) / max(weight, 1e-9),
        mean=mean(waits),
        interactive=mean(interactive),
        interactive_p95=percentile(interactive, 0.95),
        background=mean(job.wait_s for job in jobs if job.priority is Priority.BACKGROUND),
        first_turn=mean(job.wait_s for job in jobs if job.first and job.priority is Priority.INTERACTIVE),
        first_turn_all=mean(job.wait_s for job in jobs if job.first),
        p50=percentile(waits, 0.5),
        p95=percentile(waits, 0.95),
        p99=percentile(waits, 0.99),
        worst=max(waits, default=0.0),
        loads_per_100=100.0 * world.loads / max(1, len(jobs)),
        preemptions=world.preemptions,
        loads_per_idle_hour=loads_per_idle_hour(world, jobs),
    )


def loads_per_idle_hour(world: World, jobs: Sequence[Job]) -> float:
    """Return loads per hour over all times of at least an hour in which nobody waited or held a lease."""
    idle_s, loads, free_s = 0.0, 0, 0.0
    for begins_s, ends_s in [*sorted((job.arrival_s, job.done_s) for job in jobs), (world.now_s, world.now_s)]:
        if begins_s - free_s >= HOUR_S:
            idle_s += begins_s - free_s
            loads += sum(free_s <= at_s < begins_s for at_s, _ in world.ordered)
        free_s = max(free_s, ends_s)
    return loads * HOUR_S / idle_s if idle_s else 0.0


HOUR_S = 3600.0
T_975 = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23, 2.20, 2.18, 2.16, 2.14, 2.13, 2.12, 2.11, 2.10)
"""Student's t, 0.975, for 1, 2, … degrees of freedom; 2.0 beyond."""


@dataclass(frozen=True)
class Ratio:
    """Geometric mean of paired ratios with its 95 % confidence interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


def ratio(ours: Sequence[Outcome], theirs: Sequence[Outcome], of: Callable[[Outcome], float]) -> Ratio:
    """Compare instance by instance; waits below 0.1 s count as 0.1 s."""
    logs = [math.log(max(of(a), 0.1) / max(of(b), 0.1)) for a, b in zip(ours, theirs, strict=True)]
    middle = mean(logs)
    if len(logs) < 2:
        return Ratio(math.exp(middle), 0.0, math.inf)
    sd = math.sqrt(sum((x - middle) ** 2 for x in logs) / (len(logs) - 1))
    t = T_975[len(logs) - 2] if len(logs) - 2 < len(T_975) else 2.0
    half = t * sd / math.sqrt(len(logs))
    return Ratio(math.exp(middle), math.exp(middle - half), math.exp(middle + half))
