"""Ours under the same physics: the shipped ``decide``, ``next_ticket`` and ``Activity``, fed with real snapshots."""

from enum import StrEnum
from math import exp

from broker.core.decisions import Load, Plan, PreemptLease, SetAdmission, Unload
from broker.core.lease import LeaseId, LeaseState, ModelName, SlotId
from broker.core.slot import SlotState
from broker.core.snapshot import ADMIT_ALL, ClassQueue, LeaseView, ModelView, ResidencyView, SlotView, Snapshot
from broker.policy.activity import Activity
from broker.policy.decide import PolicySettings, decide
from broker.pool.records.ordering import QueueHead, next_ticket
from schemas.residency import Residency
from simulator.world import CLASSES, RANKS, Job, Queue, Resident, World

MIB_PER_GB = 1000
SLOT = SlotId("gpu0")
ALPHA = 0.2
RATE_TAU_S = 1800.0
MOST_ROUNDS = 50


class Foresight(StrEnum):
    """Where the expected arrivals come from."""

    SESSIONS = "sessions"
    """They come from ``Activity``, which learns from sessions."""
    RATE = "rate"
    """They come from the store's decaying count of arrivals alone."""
    BOTH = "both"
    """The larger of the two counts."""
    NONE = "none"
    """Nothing is expected: no prefetch, eviction by load time."""


class Hotseat:
    """Applies plans to the world as the store and the worker would, at once."""

    def __init__(self, settings: PolicySettings | None = None, foresight: Foresight = Foresight.SESSIONS) -> None:
        """Begin without any knowledge."""
        self.settings = settings or PolicySettings()
        self.foresight = foresight
        self.activity = Activity(horizon_s=self.settings.horizon_s, away_s=self.settings.away_s)
        self.arrivals: dict[str, tuple[float, float]] = {}
        self.max_wait_ms = [int(self.settings.max_wait_s[c] * 1000) for c in CLASSES]
        self.holds: dict[str, tuple[float, float, int]] = {}
        self.leases: dict[LeaseId, Job] = {}
        self.decisions = 0
        self.last: tuple[Snapshot, Plan] | None = None
        self._listening: World | None = None

    def act(self, world: World) -> float | None:
        """Decide until nothing is left to do at this moment."""
        if self._listening is not world:
            self._listening = world
            world.listeners.append(lambda kind, job: self._observe(world, kind, job))
        self._hand_out(world)
        for _ in range(MOST_ROUNDS):
            snapshot = self.snapshot(world)
            plan = decide(snapshot, self.settings)
            self.decisions += 1
            self.last = snapshot, plan
            if not plan.decisions:
                return plan.decide_again_s
            for decision in plan.decisions:
                self._apply(world, decision)
            self._hand_out(world)
        raise AssertionError(f"livelock: still deciding at the same moment: {self.last}")

    # -- the store's part ----------------------------------------------------------------------------------------

    def _hand_out(self, world: World) -> None:
        for resident in world.residents.values():
            queue = world.queues[resident.spec.name]
            while queue.count and resident.ready and len(resident.running) < world.lease_limit:
                job = self._next(world, queue, resident)
                if job is None:
                    break
                world.start(job)

    def _next(self, world: World, queue: Queue, resident: Resident) -> Job | None:
        jobs = {RANKS[job.priority]: job for job in queue.heads()}
        heads = [QueueHead(rank, job.number, int(job.queued_s * 1000), LeaseId("")) for rank, job in jobs.items()]
        admit = ADMIT_ALL if resident.admit == float("inf") else int(resident.admit)
        head = next_ticket(heads, admit=admit, now_ms=int(world.now_s * 1000), max_wait_ms=self.max_wait_ms)
        return None if head is None else jobs[head.rank]

    def _apply(self, world: World, decision: Load | Unload | SetAdmission | PreemptLease) -> None:
        match decision:
            case Load():
                world.load(decision.model, decision.evict, why=decision.why.value)
            case Unload():
                world.unload(decision.model)
            case SetAdmission():
                admit = float("inf") if decision.admit == ADMIT_ALL else decision.admit
                world.residents[decision.model].admit = admit
            case PreemptLease():
                world.preempt(self.leases[decision.lease_id])

    def _observe(self, world: World, kind: str, job: Job) -> None:
        if kind == "end":
            self._learn(job.model, job.seconds)
        model = ModelName(job.model)
        if kind == "arrive":
            self.activity.observe_arrival(job.session, model, world.now_s)
            self.arrivals[model] = self._decayed(model, world.now_s) + 1.0, world.now_s
        else:
            self.activity.observe_end(job.session, model, world.now_s)

    def _learn(self, model: str, seconds: float) -> None:
        mean, var, n = self.holds.get(model, (0.0, 0.0, 0))
        if n == 0:
            self.holds[model] = seconds, 0.0, 1
            return
        off = seconds - mean
        self.holds[model] = mean + ALPHA * off, (1 - ALPHA) * (var + ALPHA * off * off), n + 1

    # -- the picture ---------------------------------------------------------------------------------------------

    def snapshot(self, world: World) -> Snapshot:
        """Build the snapshot as the store's function would."""
        expected = self._expected(world)
        models = {}
        for name, queue in world.queues.items():
            spec = world.specs[name]
            mean, var, n = self.holds.get(name, (20.0, 400.0, 0))
            models[ModelName(name)] = ModelView(
                name=ModelName(name),
                memory_mib=round(spec.memory_gb * MIB_PER_GB),
                lease_limit=world.lease_limit,
                queues=_queues(queue) if queue.count else (),
                unestimated=queue.count,
                hold_s=mean,
                hold_sd_s=var**0.5 if n > 1 else 20.0,
                hold_n=n,
                load_s=spec.load_s,
                load_sd_s=0.0,
                load_n=1,
                unload_s=0.0,
                unload_n=1,
                expected_arrivals=expected.get(ModelName(name), 0.0),
                spoken_for_s=self.activity.spoken_for_until_s(ModelName(name), world.now_s),
                asked_s=self.arrivals.get(name, (0.0, 0.0))[1],
                wrong_guesses=world.wrong_guesses[name],
                is_default=spec.is_default,
            )
        slot = SlotView(
            slot=SLOT,
            state=SlotState.OPEN,
            generation=world.generation,
            budget_mib=round(world.budget_gb * MIB_PER_GB),
            serves=frozenset(models),
            residencies=tuple(_residency(r) for r in world.residents.values()),
            leases=tuple(self._leases(world)),
        )
        queued = sum(queue.count for queue in world.queues.values())
        return Snapshot(
            now_s=world.now_s,
            sequence=0,
            next_arrival=world.next_number,
            models=models,
            slots=(slot,),
            queued=queued,
        )

    def _decayed(self, model: str, now_s: float) -> float:
        count, at_s = self.arrivals.get(model, (0.0, now_s))
        return count * exp((at_s - now_s) / RATE_TAU_S)

    def _expected(self, world: World) -> dict[ModelName, float]:
        if self.foresight is Foresight.NONE:
            return {}
        if self.foresight is Foresight.SESSIONS:
            return self.activity.all_expected(world.now_s)
        share = self.settings.horizon_s / RATE_TAU_S
        rates = {ModelName(name): self._decayed(name, world.now_s) * share for name in world.specs}
        if self.foresight is Foresight.RATE:
            return rates
        learned = self.activity.all_expected(world.now_s)
        return {name: max(rate, learned.get(name, 0.0)) for name, rate in rates.items()}

    def _leases(self, world: World) -> list[LeaseView]:
        views = []
        for resident in world.residents.values():
            for job in resident.running:
                lease_id = LeaseId(f"{job.number:09d}")
                self.leases[lease_id] = job
                view = LeaseView(
                    lease_id=lease_id,
                    model=ModelName(job.model),
                    slot=SLOT,
                    priority=job.priority,
                    state=LeaseState.ACTIVE,
                    granted_s=job.started_s,
                    deadline_s=job.started_s + 1e9,
                )
                views.append(view)
        return views


def _queues(queue: Queue) -> tuple[ClassQueue, ...]:
    return tuple(
        ClassQueue(priority=priority, count=len(line), oldest_s=line[0].queued_s, oldest_arrival=line[0].number)
        for priority, line in zip(CLASSES, queue.classes, strict=True)
        if line
    )


def _residency(resident: Resident) -> ResidencyView:
    return ResidencyView(
        model=ModelName(resident.spec.name),
        state=Residency.READY if resident.ready else Residency.LOADING,
        generation=resident.generation,
        memory_mib=round(resident.spec.memory_gb * MIB_PER_GB),
        admit=ADMIT_ALL if resident.admit == float("inf") else int(resident.admit),
        use=len(resident.running),
        started_s=resident.started_s,
        loaded_s=resident.loaded_s,
        last_used_s=resident.last_used_s,
        waited=resident.waited,
        waiting_below=resident.below,
        why=resident.why,
        prefetched=resident.prefetched,
    )
