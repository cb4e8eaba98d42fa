"""May these orders be carried out? The handshake between a worker and a store that may forget.

Pure. Rule: orders count only when incarnation, epoch and boot are ours and their generation is not below the durable
high-water mark; the worker is the fencing authority of its slot.
"""

from dataclasses import dataclass, replace
from enum import StrEnum


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerStanding:
    """Where a slot's worker stands with the store."""

    boot: str
    """Ours: random per worker process."""
    incarnation: str = ""
    """The store's, as last seen; our report repeats it."""
    epoch: int = 0
    """Of our registration; 0 while there is none."""
    high_water: int = 0
    """Highest generation ever acted upon."""
    first_boot: str = ""
    """Whose orders lay there when we first looked at this incarnation."""
    first_epoch: int = 0
    """Their epoch: our registration will have a higher one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heading:
    """The part of a slot's orders that says for whom they are."""

    incarnation: str
    epoch: int
    boot: str
    generation: int
    refused: str = ""
    """Boot of the worker that was refused the slot last."""


CLAIM_PAUSE_S = 5.0
"""Between two claims of a slot that another host has."""


@dataclass(slots=True, kw_only=True)
class Claim:
    """What a worker does whose slot another host's worker has: keep quiet, ask again now and then, give up in the end.

    Its reports stand where the other's belong, so they must be few. That one may have died a moment ago, and brokers
    find out only when it has been silent for a while: asking once would not be enough.
    """

    patience_s: float
    _refused_s: float | None = None
    _again_s: float = 0.0

    def refused(self, now_s: float) -> bool:
        """Note a refusal; True when it has been so for too long."""
        if self._refused_s is None:
            self._refused_s, self._again_s = now_s, now_s + CLAIM_PAUSE_S
        return now_s - self._refused_s > self.patience_s

    def accepted(self) -> None:
        """Note that the slot is ours, so that no refusal counts any more."""
        self._refused_s = None

    def may_report(self, now_s: float) -> bool:
        """Whether a report may be written now."""
        return self._refused_s is None or now_s >= self._again_s

    def report_due_s(self, beat_due_s: float) -> float:
        """When to write the report that is due then: not before it may be written."""
        return beat_due_s if self._refused_s is None else max(beat_due_s, self._again_s)

    def reported(self, now_s: float) -> None:
        """Note that a report was written."""
        self._again_s = now_s + CLAIM_PAUSE_S

    @property
    def standing(self) -> bool:
        """Whether we were refused and have not got the slot since."""
        return self._refused_s is not None


class OrdersVerdict(StrEnum):
    """What to do with the orders."""

    OBEY = "obey"
    WAIT = "wait"
    """Not for us yet: carry out nothing, report, wait for the registration."""
    STALE = "stale"
    """Older than what was acted upon: changes nothing."""
    SUPERSEDED = "superseded"
    """Another worker was registered for this slot after us: stop the servers and exit."""
    TAKEN = "taken"
    """A worker of another host has the slot and lives."""


def judge_orders(standing: WorkerStanding, heading: Heading) -> tuple[OrdersVerdict, WorkerStanding]:
    """Judge the orders; answers what to do and where we stand now.

    1. No incarnation: the store knows nothing of this slot (yet, or any more). Be unregistered, wait.
    2. A foreign incarnation: take it over, be unregistered, wait.
    3. Another boot than ours, and we were refused: it is another host's.
    4. Another boot than ours: ours comes with the registration, so wait; unless orders were ours before, or the boot
       has changed since we first looked: then somebody came after us.
    5. Our boot, but the epoch is still the one of before this incarnation: the registration is to come. Wait.
    6. A generation below the mark, or a lower epoch that brings no higher generation: stale. (A lower epoch that does
       is a store that was emptied and registered us again.)
    7. Else obey, under that epoch.
    """
    unregistered = replace(standing, incarnation=heading.incarnation, epoch=0, first_boot=heading.boot)
    if not heading.incarnation:  # 1
        return OrdersVerdict.WAIT, unregistered
    if heading.incarnation != standing.incarnation:  # 2
        return OrdersVerdict.WAIT, replace(unregistered, first_epoch=heading.epoch if standing.incarnation else 0)
    if heading.boot != standing.boot == heading.refused:  # 3
        return OrdersVerdict.TAKEN, standing
    if heading.boot != standing.boot:  # 4
        came_later = heading.boot not in {"", standing.first_boot} or standing.epoch > 0
        return (OrdersVerdict.SUPERSEDED if heading.boot and came_later else OrdersVerdict.WAIT), standing
    if standing.epoch == 0 and heading.epoch <= standing.first_epoch:  # 5
        return OrdersVerdict.WAIT, standing
    emptied = heading.generation > standing.high_water
    if heading.generation < standing.high_water or (heading.epoch < standing.epoch and not emptied):  # 6
        return OrdersVerdict.STALE, standing
    return OrdersVerdict.OBEY, replace(standing, epoch=heading.epoch, high_water=heading.generation)  # 7
