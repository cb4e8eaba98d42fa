"""Two systems whose mean waits are known in closed form: what the simulator's physics are checked against."""

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from broker.core.lease import Priority
from simulator.metrics import mean
from simulator.others import Fifo
from simulator.workloads import Replay
from simulator.world import Job, Spec, World


@dataclass(frozen=True)
class Stream:
    """Poisson arrivals for one model, with given lease lengths to draw from."""

    rate_per_s: float
    lengths_s: tuple[float, ...]

    @property
    def first_moment_s(self) -> float:
        """Mean length of a lease, seconds."""
        return mean(self.lengths_s)

    @property
    def second_moment(self) -> float:
        """Mean of the squared lengths, as the Pollaczek-Khinchine formula wants it."""
        return mean(length**2 for length in self.lengths_s)

    @property
    def load(self) -> float:
        """Share of the time in which one server would be busy: utilisation, rho."""
        return self.rate_per_s * self.first_moment_s


def arrivals(streams: Sequence[Stream], *, until_s: float, seed: int) -> Replay:
    """Draw the jobs of several streams, one model ``m<i>`` for each."""
    rng = random.Random(seed)
    return Replay([job for i, stream in enumerate(streams) for job in _of(stream, f"m{i}", until_s, rng)])


def _of(stream: Stream, model: str, until_s: float, rng: random.Random) -> Iterator[Job]:
    at_s = 0.0
    while (at_s := at_s + rng.expovariate(stream.rate_per_s)) < until_s:
        seconds = rng.choice(stream.lengths_s)
        yield Job(session=model, model=model, seconds=seconds, priority=Priority.NORMAL, arrival_s=at_s)


def pollaczek_khinchine_s(stream: Stream) -> float:
    """Return the mean wait of M/G/1: lambda E[S^2] / (2 (1 - rho))."""
    return stream.rate_per_s * stream.second_moment / (2.0 * (1.0 - stream.load))


def simulated_mg1_s(stream: Stream, *, until_s: float, seed: int) -> float:
    """Return the same from the simulator: one model, one lease at a time, no time to load."""
    world = World([Spec(name="m0", memory_gb=1.0, load_s=0.0)], budget_gb=1.0, lease_limit=1)
    return mean(job.wait_s for job in world.run(arrivals([stream], until_s=until_s, seed=seed), Fifo()))


class Cyclic:
    """Serves as in polling theory: around in a circle for ever, each queue to its end, a switch between any two."""

    def act(self, world: World) -> None:
        """Serve what is here; move on when it is empty."""
        names = sorted(world.specs)
        if world.loading is not None:
            return
        here = next(iter(world.residents), None)
        if here is None:
            world.load(names[0])
            return
        job = world.queues[here].oldest()
        if world.residents[here].running:
            return
        if job is not None:
            world.start(job)
        else:
            world.load(names[(names.index(here) + 1) % len(names)], [here])


def conserved_s(streams: Sequence[Stream], switches_s: Sequence[float]) -> float:
    """Return the sum of rho_i W_i under exhaustive cyclic service, constant switches (Boxma and Groenendijk, 1987)."""
    rho, total_s = sum(s.load for s in streams), sum(switches_s)
    work = rho * sum(s.rate_per_s * s.second_moment for s in streams) / (2.0 * (1.0 - rho))
    spread = rho**2 - sum(s.load**2 for s in streams)
    return work + rho * total_s / 2.0 + total_s / (2.0 * (1.0 - rho)) * spread


def simulated_polling_s(streams: Sequence[Stream], switches_s: Sequence[float], *, until_s: float, seed: int) -> float:
    """Return the same from the simulator."""
    specs = [Spec(name=f"m{i}", memory_gb=1.0, load_s=switch_s) for i, switch_s in enumerate(switches_s)]
    world = World(specs, budget_gb=1.0, lease_limit=1)
    jobs = world.run(arrivals(streams, until_s=until_s, seed=seed), Cyclic(), until_s=until_s)
    waits: dict[str, Iterable[float]] = {
        f"m{i}": [job.wait_s for job in jobs if job.model == f"m{i}"] for i in range(len(streams))
    }
    return sum(stream.load * mean(waits[f"m{i}"]) for i, stream in enumerate(streams))
