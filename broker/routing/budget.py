"""Money: reserved before a call, settled after it, by key and in total, by day and by month.

Rule: whole micro-units of the operator's currency. What is reserved counts as spent, so calls in flight together can
never reserve more than a limit. A reservation nobody settles stays spent: a broker that died may have caused the cost.
Days and months are those of UTC; a call belongs to the one it was reserved in.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

from broker.routing.catalogue import Prices

TOTAL = "*"
"""The name of the account of all keys together; no key can be called so."""

Account = tuple[str, str]
"""Whose, and which period: ``("alice", "2026-11-21")``, ``("*", "2026-11")``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """Micro-units; None: none."""

    day_micro: int | None = None
    month_micro: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """All limits."""

    total: Limit = field(default_factory=Limit)
    keys: Mapping[str, Limit] = field(default_factory=dict)

    def hold(self, key: str) -> bool:
        """Is there any for a key?"""
        limits = (self.keys.get(key), self.total)
        return any(limit is not None and limit != Limit() for limit in limits)

    def accounts(self, key: str, now_unix_s: float) -> tuple[tuple[Account, int | None], ...]:
        """Every account a call of a key is booked on, with its limit."""
        day, month = periods(now_unix_s)
        own = self.keys.get(key, Limit())
        return (
            ((key, day), own.day_micro),
            ((key, month), own.month_micro),
            ((TOTAL, day), self.total.day_micro),
            ((TOTAL, month), self.total.month_micro),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """Money put aside for one call."""

    accounts: tuple[Account, ...]
    micro: int


class Books(Protocol):
    """Where the accounts are kept: in the store. Each call is atomic."""

    async def add_within(self, rows: Sequence[tuple[Account, int | None]], micro: int) -> bool:
        """Add to every account if none passes its limit; else to none, and False."""

    async def add(self, accounts: Sequence[Account], micro: int) -> None:
        """Add to every account, below zero never."""

    async def spent(self, accounts: Sequence[Account]) -> Sequence[int]:
        """What is on the accounts, micro-units, in their order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """The rules over the books. What the books raise when they cannot be reached passes through."""

    limits: Limits
    books: Books

    async def left_micro(self, key: str, now_unix_s: float) -> int | None:
        """What a key may still spend; None: no limit. Never below 0."""
        rows = [row for row in self.limits.accounts(key, now_unix_s) if row[1] is not None]
        if not rows:
            return None
        spent = await self.books.spent([account for account, _ in rows])
        return max(0, min((limit or 0) - micro for (_, limit), micro in zip(rows, spent, strict=True)))

    async def reserve(self, key: str, micro: int, now_unix_s: float) -> Reservation | None:
        """Put money aside; None: a limit would be passed, nothing changed.

        Args:
            key: Name of the API key.
            micro: From ``Choice.reserve_micro``.
            now_unix_s: The wall clock, seconds since 1970.

        Raises:
            ValueError: A negative amount.
        """
        if micro < 0:
            raise ValueError("an amount of money must not be negative")
        rows = self.limits.accounts(key, now_unix_s)
        if not await self.books.add_within(rows, micro):
            return None
        return Reservation(accounts=tuple(account for account, _ in rows), micro=micro)

    async def settle(self, reservation: Reservation, micro: int) -> None:
        """Replace what was reserved by what it cost: 0 for a call that cost nothing. Once per reservation."""
        if micro < 0:
            raise ValueError("an amount of money must not be negative")
        if micro != reservation.micro:
            await self.books.add(reservation.accounts, micro - reservation.micro)


def periods(now_unix_s: float) -> tuple[str, str]:
    """Day and month of a moment, as words that sort."""
    moment = datetime.fromtimestamp(now_unix_s, UTC)
    return moment.strftime("%Y-%m-%d"), moment.strftime("%Y-%m")


def cost_of(prices: Prices, usage: Mapping[str, Any] | None, reserved_micro: int) -> int:
    """What a call cost, from the ``usage`` of its answer, OpenAI's or Anthropic's; without one: what was reserved.

    Anthropic counts cached prompt tokens beside ``input_tokens``, OpenAI within ``prompt_tokens``. Writing into a cache
    costs a quarter more at Anthropic's.
    """
    if not usage:
        return reserved_micro
    replied = _number(usage, "completion_tokens", "output_tokens")
    prompted = _number(usage, "prompt_tokens", "input_tokens")
    if replied is None and prompted is None:
        return reserved_micro
    details = usage.get("prompt_tokens_details") or usage.get("input_tokens_details") or {}
    cached = _number(details, "cached_tokens") or 0 if isinstance(details, Mapping) else 0
    read, written = _number(usage, "cache_read_input_tokens") or 0, _number(usage, "cache_creation_input_tokens") or 0
    return prices.cost_micro(
        prompt_tokens=(prompted or 0) + read + -(-written * 5 // 4),
        cached_tokens=cached + read,
        reply_tokens=replied or 0,
    )


def _number(fields: Mapping[str, Any], *names: str) -> int | None:
    for name in names:
        value = fields.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return value
    return None
