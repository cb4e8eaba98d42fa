"""Forecasts that learn how wrong they are: what was told is compared with what came, and the interval follows.

A forecast's error is taken as the logarithm of real over expected wait, in units of the spread that the forecast
itself gives. A low, the middle and a high one of the latest errors, kind of wait by kind of wait, are what the next
forecast is moved and widened by. Nothing is assumed about how waits are distributed; a kind that was hardly seen
borrows from all of them, and at first from a normal distribution.

Source: conformal prediction (Vovk, Gammerman, Shafer), on a sliding window because loads change.
"""

import math
from collections import deque
from dataclasses import dataclass, field, replace
from statistics import NormalDist

from broker.policy.forecast import Forecast

LATEST = 200
"""Errors remembered of one kind of wait, and of all of them."""
BORROWED = 20
"""Errors of all kinds that stand in for those of a kind that was hardly seen: as many weigh as much as its own."""
SCALE_S = 1.0
"""Errors below this count as none: a grant is noticed that late."""
LEAST_SPREAD = 0.2
"""A forecast that is surer than this is not believed."""
OUTSIDE = 0.09
"""Share of the latest outcomes that the interval leaves out, at each end. Of those to come it is a little more, as
loads change: four of five are meant to be within, and are (``tests/simulation/etas.py``)."""

_NORMAL = NormalDist()
_PRIOR = [_NORMAL.inv_cdf((i + 0.5) / BORROWED) for i in range(BORROWED)]


@dataclass(slots=True)
class _Errors:
    """The latest of one kind, and what follows from them."""

    latest: deque[float] = field(default_factory=lambda: deque(maxlen=LATEST))

    def add(self, error: float) -> None:
        self.latest.append(error)

    def spread_out(self) -> list[float]:
        """``BORROWED`` of them, evenly: what other kinds borrow."""
        if len(self.latest) < BORROWED:
            return _PRIOR
        ordered = sorted(self.latest)
        return [ordered[int((i + 0.5) * len(ordered) / BORROWED)] for i in range(BORROWED)]


@dataclass(slots=True)
class Calibration:
    """What one process has learned of its forecasts; as many kinds as there are reasons to wait."""

    _kinds: dict[str, _Errors] = field(default_factory=dict)
    _all: _Errors = field(default_factory=_Errors)
    _quantiles: dict[str, tuple[float, float, float]] = field(default_factory=dict)
    """Worked out when first asked for after an error."""

    def learn(self, told: Forecast, actual_s: float) -> None:
        """A ticket was served.

        Args:
            told: What the model of the pool said of it, before this correction.
            actual_s: Seconds from then to the grant.
        """
        if told.eta_s is None:
            return
        error = math.log((max(0.0, actual_s) + SCALE_S) / (told.eta_s + SCALE_S)) / _spread(told)
        self._kinds.setdefault(told.reason, _Errors()).add(error)
        self._all.add(error)
        self._quantiles.clear()

    def corrected(self, raw: Forecast) -> Forecast:
        """The same with what was learned: the interval holds four of five outcomes like the latest ones."""
        if raw.eta_s is None:
            return raw
        low, middle, high = (self._moved(raw, quantile) for quantile in self._of(raw.reason))
        return replace(raw, eta_s=middle, low_s=low, high_s=high)

    def _of(self, kind: str) -> tuple[float, float, float]:
        found = self._quantiles.get(kind)
        if found is None:
            errors = self._kinds.get(kind)
            ordered = sorted([*(errors.latest if errors else ()), *self._all.spread_out()])
            last = len(ordered) - 1
            found = (
                ordered[max(0, math.floor(OUTSIDE * (last + 2)) - 1)],
                ordered[last // 2],
                ordered[min(last, math.ceil((1.0 - OUTSIDE) * (last + 2)) - 1)],
            )
            self._quantiles[kind] = found
        return found

    @staticmethod
    def _moved(raw: Forecast, quantile: float) -> float:
        assert raw.eta_s is not None
        return max(0.0, (raw.eta_s + SCALE_S) * math.exp(quantile * _spread(raw)) - SCALE_S)


def _spread(forecast: Forecast) -> float:
    """Standard deviation of the wait's logarithm, as the forecast sees it."""
    assert forecast.eta_s is not None
    share = (forecast.sd_s or 0.0) / (forecast.eta_s + SCALE_S)
    return max(LEAST_SPREAD, math.sqrt(math.log1p(share * share)))
