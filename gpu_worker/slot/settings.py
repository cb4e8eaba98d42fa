"""One slot as its supervisor sees it: its settings, how long it leaves a store alone, and how it ends."""

from dataclasses import dataclass
from enum import StrEnum

import msgspec

from gpu_worker.slot.residency import Care
from schemas.messages import Report


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotSettings:
    """One slot as its supervisor sees it."""

    slot: str
    worker: str
    boot: str
    care: Care
    beat_s: float = 1.0
    orders_interval_s: float = 2.0
    home: str = ""
    """Where its state is kept: the same after a restart, another one on another host."""
    claim_wait_s: float = 30.0
    """How long to ask for a slot that another host has."""
    store: str = "the store"
    """Where orders come from, for people."""


class Ending(StrEnum):
    """Why a supervisor's loop is over."""

    STOPPED = "stopped"
    SUPERSEDED = "superseded"
    TAKEN = "taken"


FIRST_RETRY_S = 0.1
KEY_LIMIT = 256


@dataclass(slots=True, kw_only=True)
class Backoff:
    """How long to leave a store alone that did not answer: twice as long each time, up to a limit."""

    limit_s: float
    away: bool = False
    retry_at_s: float = 0.0
    _wait_s: float = FIRST_RETRY_S

    def failed(self, now_s: float) -> bool:
        """Note a failure; True when it is the first in a row."""
        first, self.away = not self.away, True
        self.retry_at_s = now_s + self._wait_s
        self._wait_s = min(2 * self._wait_s, self.limit_s)
        return first

    def succeeded(self) -> bool:
        """Note a success; True when it ends a row of failures."""
        was_away, self.away = self.away, False
        self._wait_s = FIRST_RETRY_S
        return was_away


def essence(report: Report) -> Report:
    """What a broker should hear of at once: all but the beat, the free memory and the use, which flutter."""
    return msgspec.structs.replace(report, beat=0, free_mib=0, used_percent=0, foreign_percent=-1)


def is_usable_key(key: str) -> bool:
    """Whether a generation key can go into a key file and a header: an empty one would let everybody in."""
    return 0 < len(key) <= KEY_LIMIT and key.isascii() and key.isprintable() and " " not in key
