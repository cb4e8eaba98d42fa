"""What we compare with: strict FIFO, llama-swap and Ollama as their code of August 2026 reads, under our physics.

Both forward every request for a loaded model to its server, which works on ``lease_limit`` at a time: a model with a
queue of its own is therefore busy, as in theirs. Their limits on queue length are left out (nobody is refused here).
"""

from simulator.world import Job, Resident, World


def _serve(world: World, resident: Resident) -> None:
    """Let a loaded model take whatever comes, in order of arrival."""
    queue = world.queues[resident.spec.name]
    while resident.ready and len(resident.running) < world.lease_limit:
        job = queue.oldest()
        if job is None:
            return
        world.start(job)


def _waiting(world: World) -> list[Job]:
    """Return all tickets, oldest first."""
    return sorted((job for queue in world.queues.values() for line in queue.classes for job in line), key=_number)


def _number(job: Job) -> int:
    return job.number


def _heads(world: World) -> list[Job]:
    """Return every model's oldest ticket, oldest first: with one queue per model only these can cause a swap."""
    return sorted((job for queue in world.queues.values() if (job := queue.oldest())), key=_number)


def _is_busy(world: World, resident: Resident) -> bool:
    return bool(resident.running) or world.queues[resident.spec.name].count > 0


def _least_recent(world: World, model: str) -> list[Resident] | None:
    """Return residents to evict, least recently used first, until the model fits; ``None``: it cannot."""
    need_gb = world.specs[model].memory_gb - world.free_gb()
    evict: list[Resident] = []
    for resident in sorted(world.residents.values(), key=lambda r: (r.last_used_s, r.spec.name)):
        if need_gb <= 1e-9:
            break
        evict.append(resident)
        need_gb -= resident.spec.memory_gb
    return evict if need_gb <= 1e-9 else None


class Fifo:
    """Serves strictly in order of arrival: nobody passes the head of the queue."""

    def act(self, world: World) -> None:
        """Serve heads while they can be served; load for the first that cannot."""
        while heads := _heads(world):
            head = heads[0]
            resident = world.residents.get(head.model)
            if resident is not None:
                if not resident.ready or len(resident.running) >= world.lease_limit:
                    return
                world.start(head)
                continue
            evict = _least_recent(world, head.model)
            if world.loading is None and evict is not None and not any(r.running for r in evict):
                world.load(head.model, [r.spec.name for r in evict])
            return


class LlamaSwap:
    """Schedules as ``internal/router/scheduler/fifo.go`` reads.

    Ready models serve at once; the queue is walked in order and a swap starts when nothing in flight would be evicted;
    requests for a model that loads join it. Nobody is ever too old.
    """

    def act(self, world: World) -> None:
        """Serve, then walk the queue."""
        for resident in list(world.residents.values()):
            _serve(world, resident)
        if world.loading is not None:
            return
        for head in _heads(world):
            if head.model in world.residents:
                continue
            evict = _least_recent(world, head.model)
            if evict is not None and not any(_is_busy(world, r) for r in evict):
                world.load(head.model, [r.spec.name for r in evict])
                return


class Ollama:
    """Schedules as ``server/sched.go`` reads.

    Loaded models serve at once; the head of the pending queue blocks the rest; the victim is the first idle runner by
    name, else the first, and exactly that one is waited for. At most three models.
    """

    MOST_MODELS = 3

    def __init__(self) -> None:
        """Begin without a victim."""
        self.victim: str | None = None

    def act(self, world: World) -> None:
        """Serve, then make room for the head of the pending queue."""
        for resident in list(world.residents.values()):
            _serve(world, resident)
        if world.loading is not None:
            return
        pending = [head for head in _heads(world) if head.model not in world.residents]
        if not pending:
            return
        head = pending[0]
        while len(world.residents) >= self.MOST_MODELS or world.free_gb() < world.specs[head.model].memory_gb:
            if self.victim not in world.residents:
                names = sorted(world.residents, key=lambda n: (_is_busy(world, world.residents[n]), n))
                self.victim = names[0]
            victim = world.residents[self.victim]
            if _is_busy(world, victim):
                return
            del world.residents[self.victim]
        self.victim = None
        world.load(head.model)
