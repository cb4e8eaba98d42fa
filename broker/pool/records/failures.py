"""What is on record of a model's failures on a slot: how soon it is tried again, when it is given up, what forgives it.

1. A failed load is tried again after ``load_retry``, then twice as long each time, ``load_backoff`` at most.
2. One that cannot succeed, and ``max_fails`` in a row, are given up for ``load_backoff``, then twice as long each time:
   until then its tickets end at once, with the reason.
3. What is the host's doing is tried again by 1 and never given up.
4. A server that was ready and died is loaded again at once; one that dies young again and again by 1. One that is
   proved useless is restarted once, and given up when it is so again.
5. All of it is forgiven by a load that succeeds, a change of entry, program or files, a new worker process, an
   operator, and time.
"""

from dataclasses import dataclass
from typing import Any

from broker.core.lease import ModelName, SlotId
from broker.core.slot import PROVED, Failing
from broker.pool.records.rows import FORGET_MS, MOST_DOUBLINGS, PROVED_MS, SURVIVED_MS, PoolRules, ResidencyRow
from broker.pool.records.state import PoolState

KEPT = ("error", "kind", "fails", "tries", "falls", "failed_at", "stamp", "retry_at", "given_up", "quarantined")
"""Fields of the record."""


@dataclass(frozen=True, slots=True)
class Failure:
    """What a worker says of one."""

    kind: Failing
    error: str
    stamp: str = ""


def kept(row: ResidencyRow) -> dict[str, Any]:
    """The record, for another row of the same model and slot."""
    return {name: getattr(row, name) for name in KEPT}


def keeps(row: ResidencyRow) -> bool:
    """Is there anything on record?"""
    return row.kind is not None or row.falls > 0


def is_old(row: ResidencyRow, now: int) -> bool:
    """Is what is on record so long ago that it says nothing any more?"""
    return row.kind not in {None, Failing.UNSOUND} and now >= row.failed_at + FORGET_MS


def is_given_up(row: ResidencyRow, now: int) -> bool:
    """Would a load be in vain now, as far as is known?"""
    return row.kind is Failing.UNSOUND or (row.quarantined and row.retry_at > now)


def count_load(pool: PoolState, slot: SlotId, model: ModelName, failure: Failure) -> None:
    """Note a failed load, and when the next one may be tried."""
    row, rules = pool.residencies[slot, model], pool.settings
    of_the_host = failure.kind is Failing.HOST
    row.tries += 1
    row.fails += not of_the_host
    enough = 1 if failure.kind is Failing.PERMANENT else rules.max_fails
    if not of_the_host and row.fails >= enough:  # 2
        _put(pool, slot, model, failure)
        _give_up(pool, row)
        return
    _put(pool, slot, model, failure)  # 1, 3
    row.retry_at = pool.now + _short_ms(rules, row.tries - 1)


def count_fall(pool: PoolState, slot: SlotId, model: ModelName, failure: Failure) -> None:
    """A ready server died, or was proved useless."""
    row, rules = pool.residencies[slot, model], pool.settings
    proved = failure.kind in PROVED
    stood = pool.now - row.loaded >= (PROVED_MS if proved else SURVIVED_MS)
    row.falls = 1 if stood else row.falls + 1
    again = row.falls - 2
    if not proved and again < 0:
        return
    _put(pool, slot, model, failure)
    if again < 0:
        row.retry_at = pool.now
    elif proved:
        _give_up(pool, row)
    else:
        row.retry_at = pool.now + _short_ms(rules, again)


def note_unsound(pool: PoolState, slot: SlotId, model: ModelName, error: str) -> None:
    """The worker sees that it cannot be started."""
    _put(pool, slot, model, Failure(Failing.UNSOUND, error))
    pool.residencies[slot, model].quarantined = True


def _put(pool: PoolState, slot: SlotId, model: ModelName, failure: Failure) -> None:
    row, of_model = pool.residencies[slot, model], pool.models[model]
    row.kind, row.error, row.stamp, row.failed_at = failure.kind, failure.error, failure.stamp, pool.now
    row.quarantined, row.retry_at = False, 0
    of_model.failing = tuple(sorted({*of_model.failing, slot}))


def _give_up(pool: PoolState, row: ResidencyRow) -> None:
    pause_ms = pool.settings.load_backoff_ms * 2 ** min(row.given_up, MOST_DOUBLINGS)
    row.given_up += 1
    row.quarantined, row.retry_at = True, pool.now + pause_ms


def _short_ms(rules: PoolRules, doublings: int) -> int:
    return int(min(rules.load_retry_ms * 2 ** min(doublings, 30), rules.load_backoff_ms))


def forgive_loads(pool: PoolState, slot: SlotId, model: ModelName) -> None:
    """Failed loads are over; how often it fell after it was ready, and was given up for that, is still known."""
    row, of_model = pool.residencies[slot, model], pool.models[model]
    row.kind, row.error, row.stamp, row.failed_at = None, "", "", 0
    row.fails, row.tries, row.retry_at, row.quarantined = 0, 0, 0, False
    if row.falls == 0:
        row.given_up = 0
    of_model.failing = tuple(other for other in of_model.failing if other != slot)


def forgive(pool: PoolState, slot: SlotId, model: ModelName) -> None:
    """Nothing is held against it any more."""
    pool.residencies[slot, model].falls = 0
    forgive_loads(pool, slot, model)
