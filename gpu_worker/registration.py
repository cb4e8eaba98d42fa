"""May these orders be carried out? The handshake between a worker and a store that may forget.

Pure. Rule: orders count only when incarnation, epoch and boot are ours and their generation is not below the durable
high-water mark; the worker is the fencing authority of its slot.
"""

from dataclasses import dataclass, replace
from enum import StrEnum


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where a slot's worker stands with the store."""

    boot: str
    """Ours: random per worker process."""
    incarnation: str = ""
    """The store's, as last seen; our report repeats it."""
    epoch: int = 0
    """Of our registration; 0 while there is none."""
    high_water: int = 0
    """Highest generation ever acted upon."""
    first_boot: str | None = None
    """Whose orders lay there when we first looked at this incarnation; None: not looked yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heading:
    """The part of a slot's orders that says for whom they are."""

    incarnation: str
    epoch: int
    boot: str
    generation: int


class Verdict(StrEnum):
    """What to do with the orders."""

    OBEY = "obey"
    WAIT = "wait"
    """Not for us yet: carry out nothing, report, wait for the registration."""
    STALE = "stale"
    """Older than what was acted upon: changes nothing."""
    SUPERSEDED = "superseded"
    """Another worker was registered for this slot after us: stop the servers and exit."""


def judge(standing: Standing, heading: Heading) -> tuple[Verdict, Standing]:
    """Judge the orders; answers what to do and where we stand now.

    1. No incarnation: the store knows nothing of this slot yet. Wait.
    2. A foreign incarnation: take it over, be unregistered, wait.
    3. Another boot than ours: ours comes with the registration, so wait; unless orders were ours before, or the boot
       has changed since we first looked: then somebody came after us.
    4. An epoch or a generation below ours: stale.
    5. Else obey, under that epoch.
    """
    if not heading.incarnation:  # 1
        return Verdict.WAIT, standing
    if heading.incarnation != standing.incarnation:  # 2
        fresh = replace(standing, incarnation=heading.incarnation, epoch=0, first_boot=heading.boot)
        return Verdict.WAIT, fresh
    if heading.boot != standing.boot:  # 3
        came_later = heading.boot not in {"", standing.first_boot} or standing.epoch > 0
        return (Verdict.SUPERSEDED if heading.boot and came_later else Verdict.WAIT), standing
    if heading.epoch < standing.epoch or heading.generation < standing.high_water:  # 4
        return Verdict.STALE, standing
    return Verdict.OBEY, replace(standing, epoch=heading.epoch, high_water=heading.generation)  # 5
