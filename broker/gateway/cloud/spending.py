"""Money of the data path: put aside before a call to an upstream, settled after it, whatever became of the call.

Rule: what cannot be booked may not be spent. A call that may have been billed and did not say what it cost is booked as
reserved.
"""

import asyncio
import logging
import time

from prometheus_client import Counter

from broker.accounting.daily_counts import DailyCounts
from broker.accounting.metrics import Metrics
from broker.core.errors import HotseatError
from broker.routing.budget import Ledger, Reservation
from broker.routing.catalogue import MILLION

log = logging.getLogger("hotseat.gateway")


class Spending:
    """Of one process; the books are shared by all."""

    def __init__(self, ledger: Ledger, metrics: Metrics, book: DailyCounts) -> None:
        self._ledger = ledger
        self._book = book
        self._settling: set[asyncio.Task[None]] = set()
        registry = metrics.registry
        self._cost = Counter(
            "hotseat_cloud_cost", "Spent at upstreams, in the currency of the prices", ["upstream", "model"],
            registry=registry,
        )  # fmt: skip
        self._savings = Counter(
            "hotseat_estimated_savings",
            "What requests served by the pool would have cost at the first upstream their name leads to",
            ["model"],
            registry=registry,
        )

    def is_limited(self, key: str) -> bool:
        """Do the books have to be asked what a key may still spend?"""
        return self._ledger.limits.hold(key)

    async def left_micro(self, key: str) -> int | None:
        """What a key may still spend; nothing while the books are away."""
        try:
            return await self._ledger.left_micro(key, time.time())
        except HotseatError as error:
            log.warning("budget_unknown", extra={"reason": error.code})
            return 0

    async def reserve(self, key: str, micro: int) -> Reservation | None:
        """Put money aside; None: there is not enough, or the books are away. What costs nothing asks nobody."""
        if micro == 0:
            return Reservation(accounts=(), micro=0)
        try:
            return await self._ledger.reserve(key, micro, time.time())
        except HotseatError as error:
            log.warning("budget_unknown", extra={"reason": error.code})
            return None

    def settle(self, reservation: Reservation, micro: int, *, untold_micro: int = 0, upstream: str, model: str) -> None:
        """Book what it cost, in the background: no interruption of the exchange can stop it."""
        self._cost.labels(upstream, model).inc(micro / MILLION)
        if micro:
            self._book.count("costMicro", upstream, model, by=micro)
        task = asyncio.get_running_loop().create_task(self._settle(reservation, micro, untold_micro))
        self._settling.add(task)
        task.add_done_callback(self._settling.discard)

    async def _settle(self, reservation: Reservation, micro: int, untold_micro: int) -> None:
        try:
            await self._ledger.settle(reservation, micro, untold_micro=untold_micro)
        except HotseatError as error:  # it stays booked as reserved
            log.warning("settlement_failed", extra={"reason": error.code})

    def saved(self, model: str, micro: int) -> None:
        """A model of the pool did it for nothing."""
        self._savings.labels(model).inc(micro / MILLION)
        if micro:
            self._book.count("savedMicro", model, by=micro)

    async def close(self) -> None:
        """Let settlements end."""
        if self._settling:
            await asyncio.wait(set(self._settling), timeout=2.0)
