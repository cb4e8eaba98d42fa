"""How good the forecasts are: every ticket's first one against what happened."""

from collections.abc import Iterable
from dataclasses import dataclass

from broker.core.lease import ModelName
from broker.policy.forecast import Forecast, forecast
from simulator.hotseat_policy import Hotseat
from simulator.metrics import mean, percentile
from simulator.world import RANKS, Job, World


@dataclass(frozen=True)
class Said:
    """A forecast, and the ticket that it was made for."""

    job: Job
    at_s: float
    forecast: Forecast

    @property
    def error(self) -> float:
        """Return the error relative to the real wait, which counts as a second at least."""
        actual_s = self.job.first_start_s - self.at_s
        return abs((self.forecast.eta_s or 0.0) - actual_s) / max(actual_s, 1.0)

    @property
    def held(self) -> bool:
        """Tell whether the grant was within the interval."""
        actual_s = self.job.first_start_s - self.at_s
        return (self.forecast.low_s or 0.0) - 1e-6 <= actual_s <= (self.forecast.high_s or 0.0) + 1e-6


@dataclass(frozen=True)
class Accuracy:
    """How good the forecasts of many tickets were."""

    tickets: int
    known: int
    coverage: float
    coverage_beyond_loads: float
    """The same without tickets whose model was loading already: simulated loads always take the same time."""
    median_error: float


class Soothsayer(Hotseat):
    """Our policy, which notes a forecast for every ticket that could not be served on arrival."""

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
                said = forecast(snapshot, plan, ModelName(name), self.settings).at(position)
                self.said.append(Said(job, world.now_s, said))


def accuracy(said: Iterable[Said]) -> Accuracy:
    """Sum the forecasts up, once every ticket was served."""
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
