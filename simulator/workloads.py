"""Who asks for what, when: a real trace thinned to fit one card, and agents made up from stated distributions."""

import csv
import hashlib
import math
import random
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from broker.core.lease import Priority
from simulator.world import Job, Spec

COLD, WARM = "cold", "warm"
GENTD_GB = (20.0, 18.5, 9.5, 6.0, 14.0, 9.5, 6.0, 2.0)
AGENTIC_GB = (20.0, 18.5, 9.5, 6.0, 2.0)
DAY_S = 86_400.0


def specs(sizes_gb: tuple[float, ...], tier: str) -> list[Spec]:
    """Make models by size; cold loads take 3 s + 1.6 GB/s, warm ones 0.5 s + 12 GB/s (docs/scheduling.md)."""
    fixed_s, gb_per_s = (3.0, 1.6) if tier == COLD else (0.5, 12.0)
    return [Spec(name=f"m{i}", memory_gb=gb, load_s=fixed_s + gb / gb_per_s) for i, gb in enumerate(sizes_gb)]


@dataclass
class Replay:
    """An open workload: every arrival is known beforehand."""

    jobs: list[Job]

    def opening(self) -> Iterable[Job]:
        """Return all jobs: none depends on another."""
        return self.jobs

    def after(self, job: Job, now_s: float) -> Iterable[Job]:  # noqa: ARG002  part of the protocol
        """Return nothing: every arrival is known beforehand."""
        return ()


# -- GenTD26 ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Request:
    """One row of the trace, its model already mapped to one of eight."""

    t_s: float
    user: str
    model: int
    run_s: float


def read_trace(path: Path) -> list[Request]:
    """Read the trace. Its model of rank n becomes ours of number n mod 8: the most used one is the largest."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    counts = Counter(row["model"] for row in rows)
    rank = {model: i for i, model in enumerate(sorted(counts, key=lambda m: (-counts[m], m)))}
    return [
        Request(float(row["t_s"]), row["user"], rank[row["model"]] % len(GENTD_GB), float(row["run_s"])) for row in rows
    ]


def _share(user: str, salt: str) -> float:
    return int.from_bytes(hashlib.blake2b(f"{salt}/{user}".encode(), digest_size=8).digest(), "big") / 2**64


def _class_of(user: str, seed: int) -> Priority:
    share = _share(user, f"class{seed}")
    return (Priority.INTERACTIVE, Priority.NORMAL, Priority.BACKGROUND)[int(share * 3)]


def gentd_day(trace: list[Request], *, day: int, fraction: float, seed: int) -> Replay:
    """Take one day of the users whose hash falls into the fraction; another hash decides their class."""
    jobs: list[Job] = []
    last: dict[str, float] = {}
    for row in trace:
        if row.t_s // DAY_S != day or _share(row.user, f"user{seed}") >= fraction:
            continue
        first = row.t_s - last.get(row.user, -1e9) > 1800.0
        last[row.user] = row.t_s
        job = Job(
            session=row.user,
            model=f"m{row.model}",
            seconds=max(1.0, row.run_s),
            priority=_class_of(row.user, seed),
            arrival_s=row.t_s - day * DAY_S,
            first=first,
        )
        jobs.append(job)
    return Replay(jobs)


# -- agents ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Turn:
    """A think time, the main model's lease, then sub-agents' leases in parallel."""

    think_s: float
    main_s: float
    subs: tuple[tuple[int, float], ...]


@dataclass
class Script:
    """One session: everything about it is drawn beforehand, so that every policy plays the same one."""

    name: str
    begins_s: float
    main: int
    priority: Priority
    turns: list[Turn]
    at: int = 0
    open: int = 0
    began: bool = field(default=False)


MAIN_SHARE = (0.40, 0.25, 0.15, 0.12, 0.08)
SUB_SHARE = (0.05, 0.15, 0.30, 0.30, 0.20)
BACKGROUND_SHARE = 0.25
"""Share of the sessions that are jobs nobody looks at (cron, heartbeats): short think times, weight 1."""
SUB_TURNS = 0.35
"""Share of the turns that call sub-agents."""


def _lognormal(rng: random.Random, median: float, sigma: float, most: float) -> float:
    return min(most, median * math.exp(sigma * rng.gauss(0.0, 1.0)))


def _turn(rng: random.Random, *, background: bool) -> Turn:
    subs: tuple[tuple[int, float], ...] = ()
    if rng.random() < SUB_TURNS:
        model = rng.choices(range(len(SUB_SHARE)), SUB_SHARE)[0]
        subs = tuple((model, _lognormal(rng, 12.0, 0.9, 240.0)) for _ in range(rng.choice((1, 1, 2, 3))))
    think_s = _lognormal(rng, 15.0 if background else 60.0, 0.8 if background else 1.1, 1700.0)
    return Turn(think_s, _lognormal(rng, 14.0, 0.95, 300.0), subs)


def agentic_scripts(*, per_hour: float, hours: float, seed: int) -> list[Script]:
    """Draw sessions: they begin as a Poisson process, and the number of turns is geometric with mean 12."""
    rng = random.Random(f"agentic/{per_hour}/{seed}")
    scripts: list[Script] = []
    at_s = 0.0
    while (at_s := at_s + rng.expovariate(per_hour / 3600.0)) < hours * 3600.0:
        background = rng.random() < BACKGROUND_SHARE
        turns = [_turn(rng, background=background)]
        while rng.random() > 1.0 / 12.0 and len(turns) < 80:
            turns.append(_turn(rng, background=background))
        main = rng.choices(range(len(MAIN_SHARE)), MAIN_SHARE)[0]
        priority = Priority.BACKGROUND if background else Priority.INTERACTIVE
        scripts.append(Script(f"s{len(scripts)}", at_s, main, priority, turns))
    return scripts


@dataclass
class Agents:
    """Closed sessions: the next turn comes a think time after the last answer."""

    scripts: list[Script]

    def __post_init__(self) -> None:
        """Find scripts by the session's name."""
        self._by_name = {script.name: script for script in self.scripts}

    def opening(self) -> Iterator[Job]:
        """Yield the first turn of every session."""
        for script in self.scripts:
            yield _main(script, script.begins_s, 0)
            script.open = 1

    def after(self, job: Job, now_s: float) -> Iterable[Job]:
        """Return sub-agents when a turn's main lease ended; the next turn when the last of them did."""
        script = self._by_name[job.session]
        script.open -= 1
        turn = script.turns[script.at]
        followers: list[Job] = []
        if not script.began and turn.subs:
            followers = [_sub(script, now_s, sub) for sub in turn.subs]
        script.began = True
        script.open += len(followers)
        if script.open == 0 and script.at + 1 < len(script.turns):
            script.at += 1
            script.began = False
            script.open = 1
            followers = [_main(script, now_s + script.turns[script.at].think_s, script.at)]
        return followers


def _main(script: Script, at_s: float, index: int) -> Job:
    seconds = script.turns[index].main_s
    return Job(
        session=script.name,
        model=f"m{script.main}",
        seconds=seconds,
        priority=script.priority,
        arrival_s=at_s,
        first=index == 0,
    )


def _sub(script: Script, at_s: float, sub: tuple[int, float]) -> Job:
    priority = Priority.NORMAL if script.priority is Priority.INTERACTIVE else Priority.BACKGROUND
    return Job(session=script.name, model=f"m{sub[0]}", seconds=sub[1], priority=priority, arrival_s=at_s)


def agentic_closed(*, per_hour: float, hours: float, seed: int) -> Agents:
    """Draw sessions of people who wait for the answer before they think."""
    return Agents(agentic_scripts(per_hour=per_hour, hours=hours, seed=seed))


def agentic_open(*, per_hour: float, hours: float, seed: int) -> Replay:
    """Draw the same sessions at the times they would have had on an idle machine."""
    jobs: list[Job] = []
    for script in agentic_scripts(per_hour=per_hour, hours=hours, seed=seed):
        at_s = script.begins_s
        for index, turn in enumerate(script.turns):
            at_s += turn.think_s if index else 0.0
            jobs.append(_main(script, at_s, index))
            at_s += turn.main_s
            jobs += [_sub(script, at_s, sub) for sub in turn.subs]
            at_s += max((seconds for _, seconds in turn.subs), default=0.0)
    return Replay(sorted(jobs, key=lambda job: job.arrival_s))
