"""How good the forecasts are: every ticket's first one against what happened."""

from collections.abc import Iterable
from dataclasses import dataclass

from bench.simulator.hotseat import Hotseat
from bench.simulator.metrics import mean, percentile
from bench.simulator.world import RANKS, Job, World
from broker.core.forecast import Forecast, forecast
from broker.core.lease import ModelName


@dataclass(frozen=True)
class Said:
    """A forecast and its ticket."""

    job: Job
    at_s: float
    forecast: Forecast

    @property
    def error(self) -> float:
        """Relative to the real wait, of at least a second."""
        actual_s = self.job.first_start_s - self.at_s
        return abs((self.forecast.eta_s or 0.0) - actual_s) / max(actual_s, 1.0)

    @property
    def held(self) -> bool:
        """Was the grant within the interval?"""
        actual_s = self.job.first_start_s - self.at_s
        return (self.forecast.low_s or 0.0) - 1e-6 <= actual_s <= (self.forecast.high_s or 0.0) + 1e-6


@dataclass(frozen=True)
class Accuracy:
    """Over many tickets."""

    tickets: int
    known: int
    coverage: float
    coverage_beyond_loads: float
    """Without tickets whose model was loading already: simulated loads always take the same time."""
    median_error: float


class Soothsayer(Hotseat):
    """Ours, noting a forecast for every ticket that could not be served on arrival."""

    said: list[Said]

    def act(self, world: World) -> float | None:
        """Decide, then forecast what is new in the queues."""
        look_s = super().act(world)
        if not hasattr(self, "said"):
            self.said, self._seen = [], set[int]()
        if self.last is not None:
            for name, queue in world.queues.items():
                if queue.count:
                    self._foresee(world, name, (job for line in queue.classes for job in line))
        return look_s

    def _foresee(self, world: World, name: str, jobs: Iterable[Job]) -> None:
        assert self.last is not None
        snapshot, plan = self.last
        ordered = sorted(jobs, key=lambda job: (RANKS[job.priority], job.number))
        for position, job in enumerate(ordered, 1):
            if job.first_start_s < 0 and job.number not in self._seen:
                self._seen.add(job.number)
                said = forecast(snapshot, plan, ModelName(name), position, self.settings)
                self.said.append(Said(job, world.now_s, said))


def accuracy(said: Iterable[Said]) -> Accuracy:
    """Sum up, once every ticket was served."""
    everything = list(said)
    known = [s for s in everything if s.forecast.eta_s is not None]
    beyond = [s for s in known if s.forecast.reason != "loading"]
    return Accuracy(
        tickets=len(everything),
        known=len(known),
        coverage=mean(float(s.held) for s in known),
        coverage_beyond_loads=mean(float(s.held) for s in beyond),
        median_error=percentile([s.error for s in known], 0.5),
    )
