"""Waits for a model server's first sign of life no longer than its own answers taught us; the worker proves the silent.

Rule: a suspicion harms nobody. The store tells the worker, who asks the server for one token and looks whether its
processes do anything; only what the worker proves ends a server, and then its requests are tried again on the next.

1. An answer's first content took so long, for so large a prompt: streams and whole answers are learned apart.
2. A request that waits for several times that is a suspicion; again after twice as long, and so on.
3. So are answers with an error of the server's own, in a row with no good one in between; at once where it says that it
   is out of memory, or takes no connection.
"""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from broker.core.errors import HotseatError
from broker.core.lease import LeaseRecord, ModelName, SlotId

log = logging.getLogger("hotseat.gateway")

ALPHA = 0.2
"""Weight of the newest answer: about the last ten matter."""
KNOWN_AFTER = 3
"""Answers after which a model's own times are believed."""
MARGIN = 5.0
"""A request is suspect after so many times what it should take, three deviations included."""
UNIT_BYTES = 8192
"""A prompt this much larger may take once more as long: some two thousand tokens."""
MOST_UNITS = 200.0
ERRORS_IN_A_ROW = 2
PAUSE_S = 10.0
"""Pause between two suspicions about one server, seconds: its worker answers one at a time."""
KEPT_WORDS = 4096
"""How many bytes of an error are searched."""
_OF_MEMORY = re.compile(
    rb"out of memory|out_of_memory|failed to allocate|cannot allocate memory|bad_alloc", re.IGNORECASE
)
_NOT_ITS_OWN = frozenset({501, 502, 503, 504})
"""5xx that are not the server's own fault: it does not take that kind of question, is busy, or somebody behind it
failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignSettings:
    """What an operator may set about silence, seconds."""

    least_s: float = 10.0
    """Nobody is suspect before this, seconds."""
    unknown_s: float = 60.0
    """How long a model whose times are not known yet may be silent, seconds; with a larger prompt longer."""
    longest_s: float = 900.0


@dataclass(slots=True)
class LearnedPace:
    """What was learned of one model and way of answering: seconds for a prompt of one unit."""

    mean_s: float = 0.0
    deviation_s: float = 0.0
    count: int = 0

    def learn(self, seconds: float) -> None:
        """Take in how long the first content of one answer took, for a prompt of one unit."""
        off = seconds - self.mean_s
        if self.count == 0:
            self.mean_s = seconds
        else:
            self.mean_s += ALPHA * off
            self.deviation_s += ALPHA * (abs(off) - self.deviation_s)
        self.count += 1


def units_of(size_bytes: int) -> float:
    """Tell how many times as long as a small prompt one of that size may take."""
    return min(MOST_UNITS, 1.0 + size_bytes / UNIT_BYTES)


def suspect_after_s(pace: LearnedPace | None, size_bytes: int, settings: SignSettings) -> float:
    """Tell how long a request may wait for its first sign of life before somebody asks, seconds.

    Args:
        pace: What was learned of its model and way of answering; None: nothing.
        size_bytes: Bytes of the request's body.
        settings: What an operator has set.
    """
    units = units_of(size_bytes)
    if pace is None or pace.count < KNOWN_AFTER:
        return min(settings.longest_s, settings.unknown_s * units)
    return min(settings.longest_s, max(settings.least_s, MARGIN * (pace.mean_s + 3 * pace.deviation_s) * units))


class SignWatch:
    """Watches one request on one model server."""

    __slots__ = ("_after_s", "_lease", "_signs", "_timer", "_waited_s")

    def __init__(self, signs: "SignsOfLife", lease: LeaseRecord, after_s: float) -> None:
        self._signs, self._lease, self._after_s, self._waited_s = signs, lease, after_s, 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._plan()

    def _plan(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._after_s, self._due)

    def _due(self) -> None:
        self._waited_s += self._after_s
        self._signs.suspect(self._lease, f"no sign of life for {self._waited_s:.0f} s")
        self._after_s = self._waited_s
        self._plan()

    def stop(self) -> None:
        """Stop watching: the server gave a sign of life, or nobody waits for it any more."""
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()


class SignsOfLife:
    """What one process learned of its models, and whom it suspects."""

    def __init__(self, doubt: Callable[[LeaseRecord, str], Awaitable[None]], settings: SignSettings) -> None:
        """``doubt`` has the worker prove a lease's server; the second argument says why."""
        self._doubt = doubt
        self._settings = settings
        self._paces: dict[tuple[ModelName, bool], LearnedPace] = {}
        self._errors: dict[ModelName, int] = {}
        self._doubted: dict[ModelName, tuple[SlotId | None, int, float]] = {}
        """Slot and generation of the server that was doubted last, and when, by model."""
        self._tasks: set[asyncio.Task[None]] = set()

    def watch(self, lease: LeaseRecord, size_bytes: int, *, stream: bool) -> SignWatch:
        """Begin to watch a request that goes to the server of a lease."""
        return SignWatch(
            self, lease, suspect_after_s(self._paces.get((lease.model, stream)), size_bytes, self._settings)
        )

    def lived(self, model: ModelName, size_bytes: int, took_s: float, *, stream: bool) -> None:
        """Learn from an answer whose first content came."""
        self._paces.setdefault((model, stream), LearnedPace()).learn(took_s / units_of(size_bytes))
        self._errors.pop(model, None)

    def failed(self, lease: LeaseRecord, status: int, said: bytes) -> None:
        """Take in that the server answered with an error."""
        if status < 500 or status in _NOT_ITS_OWN:
            return
        of_memory = _OF_MEMORY.search(said[:KEPT_WORDS]) is not None
        self._count(lease, f"it answers {status}", ERRORS_IN_A_ROW if of_memory else 1)

    def broke_off(self, lease: LeaseRecord) -> None:
        """Take in that the server gave up an answer that it owed; it may be dead already."""
        self._count(lease, "it broke off answers", 1)

    def unreachable(self, lease: LeaseRecord) -> None:
        """Take in that the server took no connection."""
        self._count(lease, "it takes no connection", ERRORS_IN_A_ROW)

    def _count(self, lease: LeaseRecord, why: str, weight: int) -> None:
        self._errors[lease.model] = self._errors.get(lease.model, 0) + weight
        if self._errors[lease.model] >= ERRORS_IN_A_ROW:
            self.suspect(lease, why)

    def suspect(self, lease: LeaseRecord, why: str) -> None:
        """Have it proved, in the background; not while somebody has just done so."""
        now_s = asyncio.get_running_loop().time()
        slot, generation, at_s = self._doubted.get(lease.model, (None, 0, float("-inf")))
        if (slot, generation) == (lease.slot, lease.generation) and now_s < at_s + PAUSE_S:
            return
        self._doubted[lease.model] = lease.slot, lease.generation, now_s
        self._errors.pop(lease.model, None)
        task = asyncio.get_running_loop().create_task(self._tell(lease, why))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _tell(self, lease: LeaseRecord, why: str) -> None:
        told = {"model": lease.model, "slot": lease.slot, "generation": lease.generation, "reason": why}
        log.warning("server_doubted", extra=told)
        try:
            await self._doubt(lease, why)
        except HotseatError as error:  # another residency by now, or the store is away: whoever waits on asks again
            log.info("doubt_not_told", extra=told | {"reason": error.code})
