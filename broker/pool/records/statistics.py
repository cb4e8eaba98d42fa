"""What a pool learns: how long leases, loads and unloads take, how often a model is asked for, whose estimates hold.

Every number is rounded to an integer the same way in Lua, so that both interpreters agree to the last digit.
"""

import math

from broker.pool.records.lease_row import LeaseRow
from broker.pool.records.rows import ModelRow, Statistic, TenantRow

ALPHA = 0.2
"""Weight of the newest observation: about the last ten matter."""
ARRIVALS_TAU_MS = 1_800_000
"""Half an hour of memory for the rate of arrivals (docs/scheduling.md, "What is learned of sessions")."""
ONE_ARRIVAL = 1000
"""The count of arrivals is in thousandths."""
TRUSTED_ERROR = 700
"""Estimates are used while their mean |ln(actual / expected)| stays within a factor of two, in thousandths."""


def rounded(value: float) -> int:
    """Half up, as ``math.floor(x + 0.5)`` in Lua."""
    return math.floor(value + 0.5)


def learn(statistic: Statistic, observed_ms: int) -> None:
    """Take a measured duration into mean and variance."""
    if statistic.n == 0:
        statistic.mean, statistic.var = observed_ms, 0
    else:
        off = observed_ms - statistic.mean
        statistic.mean = rounded(statistic.mean + ALPHA * off)
        statistic.var = rounded((1 - ALPHA) * (statistic.var + ALPHA * off * off))
    statistic.n += 1


def count_arrival(model: ModelRow, now_ms: int) -> None:
    """One more ``use`` lease was asked for."""
    model.arrivals = decayed_arrivals(model, now_ms) + ONE_ARRIVAL
    model.arrived_at = now_ms


def discount_arrival(model: ModelRow, arrived_ms: int, now_ms: int) -> None:
    """One that was asked for left the line by itself: nothing was used, so nothing more is to be expected."""
    its_part = rounded(ONE_ARRIVAL * math.exp((arrived_ms - now_ms) / ARRIVALS_TAU_MS))
    model.arrivals = max(decayed_arrivals(model, now_ms) - its_part, 0)
    model.arrived_at = now_ms


def decayed_arrivals(model: ModelRow, now_ms: int) -> int:
    """The decaying count, in thousandths, as of now."""
    return rounded(model.arrivals * math.exp((model.arrived_at - now_ms) / ARRIVALS_TAU_MS))


def trusted(tenant: TenantRow | None) -> bool:
    """Do this API key's estimates hold? A new key is believed."""
    return tenant is None or tenant.err <= TRUSTED_ERROR


def learn_error(tenant: TenantRow, lease: LeaseRow, held_ms: int) -> None:
    """Compare an estimate with what happened."""
    error = rounded(abs(math.log(max(held_ms, 1) / lease.estimate_ms)) * 1000)
    tenant.err = error if tenant.err_n == 0 else rounded(tenant.err + ALPHA * (error - tenant.err))
    tenant.err_n += 1
