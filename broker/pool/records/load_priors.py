"""How long a load takes: as learned, else as the operator says, else as a worker reckons from its files, else 15 s.

A worker's reckoning leaves out what nobody can see without a load (mapped files, slow starts, a warm page cache). What
loads of other models on the same host took, over what was reckoned for them, corrects it.
"""

import math
from collections.abc import Iterable, Mapping
from statistics import fmean

from broker.core.lease import ModelName
from broker.core.snapshot import LOAD_S, LOAD_SD_S, SlotView
from broker.pool.records.rows import Statistic

PRIOR_CV, LEAST_PRIOR_SD_S = 1.0, 5.0
"""Of a reckoned time: standard deviation over mean, and at least (starts differ). Its interval goes from nothing to
thrice as long."""
LONGEST_MS = 6 * 3_600_000
"""A worker's reckoning beyond this is not believed."""
MOST_CORRECTION = 8.0
"""A reckoning is corrected by no more than this, either way."""


def load_time_s(learned: Statistic, hint_ms: int, prior_s: float | None) -> tuple[float, float]:
    """Mean and standard deviation of a model's next load, seconds.

    Args:
        learned: From its own loads.
        hint_ms: The catalogue's; 0: none.
        prior_s: Reckoned from its files, if it is.
    """
    if not learned.n and not hint_ms and prior_s is not None:
        return prior_s, max(PRIOR_CV * prior_s, LEAST_PRIOR_SD_S)
    mean_s = learned.mean / 1000 if learned.n else hint_ms / 1000 or LOAD_S
    return mean_s, math.sqrt(learned.var) / 1000 if learned.n > 1 else LOAD_SD_S


def priors_s(slots: Iterable[SlotView], learned: Mapping[ModelName, Statistic]) -> dict[ModelName, float]:
    """What is reckoned for each model, corrected: the most of all slots that serve it.

    Args:
        slots: With what their workers reckon.
        learned: Of every model that was loaded before, and of others.
    """
    hosts: dict[str, dict[ModelName, float]] = {}
    for slot in slots:
        told = hosts.setdefault(slot.worker, {})
        for model, prior_s in slot.load_priors_s.items():
            told[model] = max(prior_s, told.get(model, 0.0))
    found: dict[ModelName, float] = {}
    for told in hosts.values():
        factor = _correction(told, learned)
        for model, prior_s in told.items():
            found[model] = max(min(factor * prior_s, LONGEST_MS / 1000), found.get(model, 0.0))
    return found


def _correction(told: Mapping[ModelName, float], learned: Mapping[ModelName, Statistic]) -> float:
    """Geometric mean of real over reckoned, of one host; that the reckoning is right counts as one more load."""
    took = ((prior_s, learned[model]) for model, prior_s in told.items() if model in learned)
    errors = [math.log(max(load.mean, 1) / 1000 / prior_s) for prior_s, load in took if load.n]
    factor = math.exp(fmean([0.0, *errors]))
    return min(max(factor, 1 / MOST_CORRECTION), MOST_CORRECTION)
