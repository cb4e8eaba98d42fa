"""The physics: one card, leases that take their time, one load at a time. Policies act on it through a few verbs.

A resident model serves ``lease_limit`` leases in parallel without slowing down. Only idle models are evicted. A
preempted lease keeps the seconds it still needs and queues again with a new arrival number, as a client would.
"""

import heapq
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from math import inf
from typing import Protocol

from broker.core.lease import Priority
from broker.pool.records.rows import GUESS, MOST_WRONG, WRONG

WEIGHTS = {Priority.INTERACTIVE: 4.0, Priority.NORMAL: 2.0, Priority.BACKGROUND: 1.0, Priority.BATCH: 0.5}
CLASSES = tuple(Priority)
RANKS = {priority: rank for rank, priority in enumerate(CLASSES)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """A model's size and how long it takes to load with the room free."""

    name: str
    memory_gb: float
    load_s: float
    is_default: bool = False


@dataclass(slots=True, kw_only=True)
class Job:
    """One lease: what it needs, and what became of it."""

    session: str
    model: str
    seconds: float
    priority: Priority
    arrival_s: float
    first: bool = False
    """It is the first turn of its session."""
    remaining_s: float = 0.0
    number: int = 0
    """Arrival number of its current ticket."""
    queued_s: float = 0.0
    """When its current ticket was queued, virtual seconds."""
    started_s: float = -1.0
    first_start_s: float = -1.0
    done_s: float = -1.0
    version: int = 0
    """Number of its current run: the end event of a preempted run has an older one."""
    forecast: object = None

    @property
    def wait_s(self) -> float:
        """Return the seconds from its arrival to its first start."""
        return self.first_start_s - self.arrival_s

    @property
    def delay_s(self) -> float:
        """Return all the seconds in which it was not served."""
        return self.done_s - self.arrival_s - self.seconds


@dataclass(slots=True)
class Resident:
    """A model on the card, loading or ready."""

    spec: Spec
    generation: int
    started_s: float
    ready: bool = False
    loaded_s: float = 0.0
    last_used_s: float = 0.0
    waited: int = 0
    """Tickets with lower arrival numbers waited for the load."""
    below: int = 0
    """How many of those tickets still wait."""
    admit: float = float("inf")
    why: str = ""
    """Why it was loaded, where the policy tells."""
    prefetched: bool = False
    """It was loaded on a guess and not used yet."""
    running: list[Job] = field(default_factory=list)


class Scheduler(Protocol):
    """The policy under test, which acts on the world."""

    def act(self, world: "World") -> float | None:
        """Act at this moment; return the time to be asked again even if nothing happens, or None."""
        ...


class Load(Protocol):
    """A workload: jobs known from the start, and jobs that follow from others ending."""

    def opening(self) -> Iterable[Job]:
        """Return the jobs that are known from the start, in any order."""
        ...

    def after(self, job: Job, now_s: float) -> Iterable[Job]:
        """Return the jobs that follow from a job that just ended."""
        ...


class Queue:
    """The waiting tickets of one model, oldest first per class."""

    def __init__(self) -> None:
        """Begin empty."""
        self.classes: tuple[deque[Job], ...] = tuple(deque() for _ in CLASSES)
        self.count = 0

    def put(self, job: Job) -> None:
        """Put a job at the end of its class."""
        self.classes[RANKS[job.priority]].append(job)
        self.count += 1

    def take(self, job: Job) -> None:
        """Take a job out, which is the oldest of its class."""
        taken = self.classes[RANKS[job.priority]].popleft()
        assert taken is job
        self.count -= 1

    def heads(self) -> list[Job]:
        """Return the oldest job of each class that has one."""
        return [waiting[0] for waiting in self.classes if waiting]

    def oldest(self) -> Job | None:
        """Return the oldest job of all classes; None: nobody waits."""
        return min(self.heads(), key=lambda job: job.number, default=None)


class World:
    """One card with a memory budget, under a virtual clock."""

    def __init__(self, specs: Iterable[Spec], *, budget_gb: float, lease_limit: int = 4) -> None:
        """Nothing is loaded at time 0."""
        self.specs = {spec.name: spec for spec in specs}
        self.budget_gb, self.lease_limit = budget_gb, lease_limit
        self.now_s = 0.0
        self.queues = {name: Queue() for name in self.specs}
        self.residents: dict[str, Resident] = {}
        self.loading: Resident | None = None
        self.loads = 0
        self.ordered: list[tuple[float, str]] = []
        """Every load that was ordered: when, and of which model."""
        self.wrong_guesses: dict[str, int] = dict.fromkeys(self.specs, 0)
        """How many guesses were wrong, by model, as ``broker.pool.slots.residencies`` counts them."""
        self.useless_loads = 0
        self.preemptions = 0
        self.next_number = 1
        self.generation = 0
        self.done: list[Job] = []
        self.listeners: list[Callable[[str, Job], None]] = []
        self._events: list[tuple[float, int, str, Job | Resident | None, int]] = []
        self._tie = 0

    # -- what policies may do ------------------------------------------------------------------------------------

    def free_gb(self) -> float:
        """Return the budget less what is there or coming, GB."""
        return self.budget_gb - sum(r.spec.memory_gb for r in self.residents.values())

    def unload(self, model: str) -> None:
        """Give up an idle model, or a load nobody waits for."""
        gone = self.residents.pop(model)
        assert not gone.running, "evicted in use"
        if gone.prefetched:
            self.wrong_guesses[model] = min(MOST_WRONG, self.wrong_guesses[model] + WRONG)
        if gone is self.loading:
            self.loading = None
            self.useless_loads += 1

    def load(self, model: str, evict: Iterable[str] = (), *, why: str = "") -> None:
        """Begin a load; whatever is evicted is idle, or a load nobody waits for."""
        for name in evict:
            self.unload(name)
        assert self.loading is None, "two loads at once"
        assert model not in self.residents, "already there"
        self.generation += 1
        spec = self.specs[model]
        resident = Resident(spec, self.generation, self.now_s, why=why, prefetched=why == GUESS)
        self.residents[model] = self.loading = resident
        assert self.free_gb() >= -1e-9, "memory does not fit"
        self.loads += 1
        self.ordered.append((self.now_s, model))
        if self.queues[model].count:
            self.wrong_guesses[model] = max(0, self.wrong_guesses[model] - 1)
        self._push(self.now_s + spec.load_s, "loaded", resident, 0)

    def start(self, job: Job) -> None:
        """Grant a waiting job a lease on its ready model."""
        resident = self.residents[job.model]
        assert resident.ready, "granted on a model that is not ready"
        assert len(resident.running) < self.lease_limit, "too many leases"
        self.queues[job.model].take(job)
        if job.number < resident.waited:
            resident.below -= 1
        if resident.prefetched:
            resident.prefetched = False
            self.wrong_guesses[job.model] //= 2
        resident.running.append(job)
        resident.last_used_s = job.started_s = self.now_s
        if job.first_start_s < 0:
            job.first_start_s = self.now_s
        self._push(self.now_s + job.remaining_s, "done", job, job.version)

    def preempt(self, job: Job) -> None:
        """Suspend a running job; it queues again for what remains."""
        resident = self.residents[job.model]
        resident.running.remove(job)
        resident.last_used_s = self.now_s
        job.remaining_s -= self.now_s - job.started_s
        job.version += 1
        self.preemptions += 1
        self._enqueue(job)

    # -- time ----------------------------------------------------------------------------------------------------

    def run(self, load: Load, scheduler: Scheduler, *, until_s: float = inf) -> list[Job]:
        """Play a workload to its end (or to a time, also when nothing happens any more); return the finished jobs."""
        for job in load.opening():
            self._push(job.arrival_s, "arrive", job, 0)
        look_s: float | None = None
        while self._events or (look_s is not None and (until_s < inf or any(q.count for q in self.queues.values()))):
            at_s = self._events[0][0] if self._events else float("inf")
            if look_s is not None and look_s < at_s:
                at_s = look_s
            if at_s > until_s:
                break
            assert at_s >= self.now_s, "time runs backwards"
            self.now_s = at_s
            while self._events and self._events[0][0] <= at_s:
                self._happen(load)
            look_s = scheduler.act(self)
            assert look_s is None or look_s > self.now_s, "asked to look again at once"
        return self.done

    def _happen(self, load: Load) -> None:
        _, _, kind, what, version = heapq.heappop(self._events)
        if isinstance(what, Resident):
            if self.loading is what:
                self._loaded(what)
        elif kind == "arrive" and what is not None:
            what.remaining_s = what.seconds
            self._enqueue(what)
            self._tell("arrive", what)
        elif what is not None and what.version == version:
            self._finish(what, load)

    def _loaded(self, resident: Resident) -> None:
        self.loading = None
        resident.ready = True
        resident.loaded_s = resident.last_used_s = self.now_s
        resident.waited = self.next_number
        resident.below = self.queues[resident.spec.name].count

    def _finish(self, job: Job, load: Load) -> None:
        resident = self.residents[job.model]
        resident.running.remove(job)
        resident.last_used_s = job.done_s = self.now_s
        self.done.append(job)
        self._tell("end", job)
        for follower in load.after(job, self.now_s):
            self._push(max(follower.arrival_s, self.now_s), "arrive", follower, 0)

    def _enqueue(self, job: Job) -> None:
        job.number, job.queued_s = self.next_number, self.now_s
        self.next_number += 1
        self.queues[job.model].put(job)

    def _push(self, at_s: float, kind: str, what: Job | Resident, version: int) -> None:
        self._tie += 1
        heapq.heappush(self._events, (at_s, self._tie, kind, what, version))

    def _tell(self, kind: str, job: Job) -> None:
        for listener in self.listeners:
            listener(kind, job)
