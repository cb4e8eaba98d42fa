"""Money: reserved before a call, settled after it, by key and in total, by day and by month.

Rule: whole micro-units of the operator's currency. What is reserved counts as spent, so calls in flight together can
never reserve more than a limit. A reservation nobody settles stays spent: a broker that died may have caused the cost.
Days and months are those of UTC; a call belongs to the one it was reserved in.

Between keys: what a key has reserved and nobody has told the cost of (calls in flight, and those that were broken off)
takes at most three quarters of what all share, where there are other keys. So no key uses up the budget of all with
calls that it breaks off.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

from broker.routing.catalogue import Prices

TOTAL = "*"
"""Name of the account of all keys together; no key can be called so."""

UNTOLD = "?"
"""Stands before a key's name in the account of what nobody has told the cost of."""
MOST_TOKENS = 100_000_000
"""No call has more tokens: a count beyond it is a lie or a mistake, and says nothing."""
LEFT_TO_OTHERS = 4
"""One part in so many of the shared budget is out of reach of a key's calls whose cost nobody has told."""

Account = tuple[str, str]
"""Name of the key and of the period, as in ``("alice", "2026-11-21")`` and ``("*", "2026-11")``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """What may be spent in a day and in a month, micro-units; None: no limit."""

    day_micro: int | None = None
    month_micro: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetLimits:
    """The budget limits of all keys together, and of each key."""

    total: Limit = field(default_factory=Limit)
    keys: Mapping[str, Limit] = field(default_factory=dict)

    def hold(self, key: str) -> bool:
        """Tell whether any limit holds for a key."""
        limits = (self.keys.get(key), self.total)
        return any(limit is not None and limit != Limit() for limit in limits)

    def accounts(self, key: str, now_unix_s: float) -> tuple[tuple[Account, int | None], ...]:
        """Return every account that a key's call is booked on, with its limit."""
        day, month = periods(now_unix_s)
        own = self.keys.get(key, Limit())
        return (
            ((key, day), own.day_micro),
            ((key, month), own.month_micro),
            ((TOTAL, day), self.total.day_micro),
            ((TOTAL, month), self.total.month_micro),
        )

    def untold(self, key: str, now_unix_s: float) -> tuple[tuple[Account, int | None], ...]:
        """Return the accounts of what a key reserved and nobody told the cost of; none where no other key shares."""
        if not set(self.keys) - {key}:
            return ()
        shared = zip(periods(now_unix_s), (self.total.day_micro, self.total.month_micro), strict=True)
        whose = UNTOLD + key
        return tuple(
            ((whose, period), limit - limit // LEFT_TO_OTHERS) for period, limit in shared if limit is not None
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """Money put aside for one call, until ``settle``."""

    accounts: tuple[Account, ...]
    micro: int
    untold: tuple[Account, ...] = ()


class Books(Protocol):
    """Where the accounts are kept: in the store. Each call is atomic."""

    async def add_within(self, rows: Sequence[tuple[Account, int | None]], micro: int) -> bool:
        """Add to every account and return True if none passes its limit; else change nothing and return False."""

    async def add(self, accounts: Sequence[Account], micro: int) -> None:
        """Add to every account, which never falls below zero."""

    async def spent(self, accounts: Sequence[Account]) -> Sequence[int]:
        """Return what is on the accounts, micro-units, in their order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """The rules over the books. What the books raise when they cannot be reached passes through."""

    limits: BudgetLimits
    books: Books

    async def left_micro(self, key: str, now_unix_s: float) -> int | None:
        """Return what a key may still spend, micro-units, never below 0; None: no limit."""
        every = (*self.limits.accounts(key, now_unix_s), *self.limits.untold(key, now_unix_s))
        rows = [row for row in every if row[1] is not None]
        if not rows:
            return None
        spent = await self.books.spent([account for account, _ in rows])
        return max(0, min((limit or 0) - micro for (_, limit), micro in zip(rows, spent, strict=True)))

    async def reserve(self, key: str, micro: int, now_unix_s: float) -> Reservation | None:
        """Put money aside; None: a limit would be passed, and nothing changed.

        Args:
            key: Name of the API key.
            micro: From ``Choice.reserve_micro``.
            now_unix_s: The wall clock, seconds since 1970.

        Raises:
            ValueError: The amount is negative.
        """
        if micro < 0:
            raise ValueError("an amount of money must not be negative")
        rows, untold = self.limits.accounts(key, now_unix_s), self.limits.untold(key, now_unix_s)
        if not await self.books.add_within((*rows, *untold), micro):
            return None
        accounts, open_ones = (tuple(account for account, _ in some) for some in (rows, untold))
        return Reservation(accounts=accounts, micro=micro, untold=open_ones)

    async def settle(self, reservation: Reservation, micro: int, *, untold_micro: int = 0) -> None:
        """Replace what was reserved by what it cost: 0 for a call that cost nothing. Once per reservation.

        Args:
            reservation: What was put aside for the call.
            micro: What it cost, micro-units.
            untold_micro: How much of it nobody told, as the call was broken off.
        """
        if micro < 0:
            raise ValueError("an amount of money must not be negative")
        if micro != reservation.micro:
            await self.books.add(reservation.accounts, micro - reservation.micro)
        if reservation.untold and untold_micro != reservation.micro:
            await self.books.add(reservation.untold, untold_micro - reservation.micro)


def periods(now_unix_s: float) -> tuple[str, str]:
    """Return day and month of a moment, as words that sort."""
    moment = datetime.fromtimestamp(now_unix_s, UTC)
    return moment.strftime("%Y-%m-%d"), moment.strftime("%Y-%m")


def cost_of(prices: Prices, usage: Mapping[str, Any] | None, reserved_micro: int) -> int:
    """Return what a call cost by the ``usage`` of its answer, OpenAI's or Anthropic's; without one what was reserved.

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
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST_TOKENS:
            return value
    return None
