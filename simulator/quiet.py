"""Workloads in which little happens: what is on the card while nobody waits decides how often models are loaded.

Loads take unequally long. Everything is drawn beforehand from a seed; a closed session's next turn follows its answer.
"""

import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from broker.core.lease import Priority
from simulator.workloads import AGENTIC_GB, Agents, agentic_scripts
from simulator.world import Job, Load, Spec

HOUR_S = 3600.0


@dataclass(frozen=True)
class Quiet:
    """A workload with models of its own."""

    name: str
    models: tuple[Spec, ...]
    ends_s: float
    """When the run ends: decisions go on until then, though nothing happens any more."""
    make: Callable[[int], Load]
    """Draws the workload from a seed."""


def _lognormal(rng: random.Random, median: float, sigma: float, most: float) -> float:
    return min(most, rng.lognormvariate(0.0, sigma) * median)


@dataclass
class Turns:
    """A closed session: one model, a lease after the other with a pause between them."""

    name: str
    model: str
    begins_s: float
    holds_s: list[float]
    gaps_s: list[float]
    priority: Priority = Priority.INTERACTIVE

    def job(self, number: int, at_s: float) -> Job:
        """Make the session's turn of this number, which asks for its lease at ``at_s``."""
        return Job(
            session=self.name,
            model=self.model,
            seconds=self.holds_s[number],
            priority=self.priority,
            arrival_s=at_s,
            first=number == 0,
        )


@dataclass
class Sessions:
    """Closed sessions beside each other."""

    sessions: list[Turns]
    _done: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Find sessions by name."""
        self._by_name = {session.name: session for session in self.sessions}

    def opening(self) -> Iterator[Job]:
        """Yield the first turn of each session."""
        return (session.job(0, session.begins_s) for session in self.sessions)

    def after(self, job: Job, now_s: float) -> Iterable[Job]:
        """Return the session's next turn after a pause; none: it was the last."""
        session = self._by_name[job.session]
        done = self._done[job.session] = self._done.get(job.session, 0) + 1
        return [session.job(done, now_s + session.gaps_s[done - 1])] if done < len(session.holds_s) else []


def _turns(rng: random.Random, name: str, model: str, begins_s: float, count: int, gap_s: float) -> Turns:
    holds_s = [_lognormal(rng, 6.0, 0.8, 120.0) for _ in range(count)]
    return Turns(name, model, begins_s, holds_s, [_lognormal(rng, gap_s, 0.8, 1700.0) for _ in range(count)])


def _arrivals(rng: random.Random, per_hour: float, hours: float) -> Iterator[float]:
    at_s = 0.0
    while (at_s := at_s + rng.expovariate(per_hour / HOUR_S)) < hours * HOUR_S:
        yield at_s


def lone_agent(seed: int) -> Load:
    """Take turns two seconds apart on a model that loads in 4 s; an hour has six requests for one that takes 15 s."""
    rng = random.Random(f"lone/{seed}")
    sessions = [_turns(rng, "agent", "fast", 60.0, 1000, 2.0)]
    sessions += [_turns(rng, f"one-off-{i}", "slow", at_s, 1, 0.0) for i, at_s in enumerate(_arrivals(rng, 6.0, 3.0))]
    return Sessions(sessions)


def unequal_loads(seed: int) -> Load:
    """Play the agents of the other tables, one an hour."""
    return Agents(agentic_scripts(per_hour=1, hours=24.0, seed=seed))


def one_offs(seed: int) -> Load:
    """Make twenty requests an hour, each by somebody of whom nothing is known."""
    rng = random.Random(f"one-off/{seed}")
    models = ("fast", "middle", "slow")
    return Sessions(
        [
            _turns(rng, f"one-off-{i}", rng.choices(models, (0.6, 0.3, 0.1))[0], at_s, 1, 0.0)
            for i, at_s in enumerate(_arrivals(rng, 20.0, 12.0))
        ]
    )


def idle_hours(seed: int) -> Load:
    """Play half an hour of three conversations on three models, then nothing for three and a half; six times."""
    rng = random.Random(f"idle/{seed}")
    sessions = []
    for morning in range(6):
        for model in ("fast", "middle", "slow"):
            begins_s = (4 * morning + rng.uniform(0.0, 0.2)) * HOUR_S
            sessions.append(_turns(rng, f"{morning}/{model}", model, begins_s, 15, 60.0))
    return Sessions(sessions)


def a_default(seed: int) -> Load:
    """Play two conversations an hour, six in seven with the default; the others ask for the large model."""
    rng = random.Random(f"default/{seed}")
    sessions = []
    for i, at_s in enumerate(_arrivals(rng, 2.0, 24.0)):
        model = "8b" if rng.random() < 6 / 7 else "32b"
        sessions.append(_turns(rng, f"s{i}", model, at_s, rng.randint(1, 12), 45.0))
    return Sessions(sessions)


def _spec(name: str, load_s: float, memory_gb: float, *, default: bool = False) -> Spec:
    return Spec(name=name, memory_gb=memory_gb, load_s=load_s, is_default=default)


PAIR = (_spec("fast", 4.0, 6.0), _spec("slow", 15.0, 20.0))
THREE = (_spec("fast", 4.0, 6.0), _spec("middle", 10.0, 14.0), _spec("slow", 25.0, 20.0))
OWNERS = (_spec("8b", 10.0, 9.5, default=True), _spec("32b", 25.0, 20.0))
UNEQUAL = tuple(
    _spec(f"m{i}", load_s, gb)
    for i, (load_s, gb) in enumerate(zip((4.0, 25.0, 15.0, 8.0, 2.0), AGENTIC_GB, strict=True))
)
QUIET = (
    Quiet("a lone agent, one-off requests for another model", PAIR, 3.5 * HOUR_S, lone_agent),
    Quiet("agents, unequal loads", UNEQUAL, 27.0 * HOUR_S, unequal_loads),
    Quiet("one-off requests", THREE, 13.0 * HOUR_S, one_offs),
    Quiet("idle hours", THREE, 25.0 * HOUR_S, idle_hours),
    Quiet("a default, another model on demand", OWNERS, 27.0 * HOUR_S, a_default),
)
