"""One pool: its rows, its queues in order of service, its deadlines in order of time."""

import heapq
from bisect import bisect_left, insort
from collections.abc import Iterator
from typing import Generic, TypeVar

from broker.core.lease import RANK, LeaseId, LifeId, ModelName, SlotId
from broker.core.snapshot import ADMIT_ALL
from broker.pool.records.lease_row import LeaseRow
from broker.pool.records.ordering import QueueHead
from broker.pool.records.rows import (
    EventRow,
    LifeRow,
    Meta,
    ModelRow,
    OperationRow,
    OrdersRow,
    PoolRules,
    ResidencyRow,
    SessionRow,
    SlotRow,
    TenantRow,
)


class TicketQueue:
    """``P:queue:<m>`` and ``P:turn:<m>``: per class the tickets in order of arrival, and in order of turn."""

    __slots__ = ("_classes", "_turns")

    def __init__(self) -> None:
        self._classes: tuple[list[tuple[int, LeaseId]], ...] = ([], [], [], [])
        self._turns: tuple[list[tuple[int, int, LeaseId]], ...] = ([], [], [], [])

    def add(self, rank: int, arrival: int, turn: int, lease_id: LeaseId) -> None:
        """Put a ticket where its class and arrival belong."""
        insort(self._classes[rank], (arrival, lease_id))
        insort(self._turns[rank], (turn, arrival, lease_id))

    def remove(self, rank: int, arrival: int, turn: int) -> None:
        """Take a ticket out."""
        tickets, turns = self._classes[rank], self._turns[rank]
        del tickets[bisect_left(tickets, (arrival, ""))]
        del turns[bisect_left(turns, (turn, arrival, ""))]

    def first(self, rank: int) -> LeaseId | None:
        """The oldest of a class."""
        return self._classes[rank][0][1] if self._classes[rank] else None

    def count(self, rank: int, below: int = ADMIT_ALL) -> int:
        """Tickets of a class that arrived before ``below``."""
        return bisect_left(self._classes[rank], (below, ""))

    def position(self, rank: int, arrival: int, turn: int) -> int:
        """1 for the first in order of service."""
        ahead = sum(len(tickets) for tickets in self._classes[:rank])
        return ahead + bisect_left(self._turns[rank], (turn, arrival, "")) + 1

    def next_in_turn(self) -> LeaseId | None:
        """The first in order of service."""
        return next(iter(self), None)

    def __iter__(self) -> Iterator[LeaseId]:
        return (lease_id for turns in self._turns for _, _, lease_id in turns)

    def __len__(self) -> int:
        return sum(map(len, self._classes))


_Name = TypeVar("_Name", bound=str)
SLACK = 64
"""Moments that were moved stay in the heap until there are so many, and as many as there are good ones."""


class Due(Generic[_Name]):
    """``P:due``, ``P:kept:<who>``: moments in order; ties by name, as in a sorted set."""

    __slots__ = ("_heap", "_when")

    def __init__(self) -> None:
        self._heap: list[tuple[int, _Name]] = []
        self._when: dict[_Name, int] = {}

    def __len__(self) -> int:
        return len(self._when)

    def set(self, name: _Name, moment: int) -> None:
        """Put or move one."""
        self._when[name] = moment
        heapq.heappush(self._heap, (moment, name))
        if len(self._heap) > 2 * len(self._when) + SLACK:
            self._heap = [(at, one) for one, at in self._when.items()]
            heapq.heapify(self._heap)

    def remove(self, name: _Name) -> None:
        """Forget one."""
        del self._when[name]

    def get(self, name: _Name) -> int | None:
        """Its moment, if it has one."""
        return self._when.get(name)

    def first(self) -> tuple[int, _Name] | None:
        """The earliest."""
        while self._heap and self._when.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0] if self._heap else None

    def items(self) -> dict[_Name, int]:
        """A copy, for checks."""
        return dict(self._when)


class PoolState:
    """One pool. Empty (``meta`` is ``None``) until initialised."""

    def __init__(self) -> None:
        self.meta: Meta | None = None
        self.settings = PoolRules()
        self.now = 0
        """Logical clock of the running call."""
        self.models: dict[ModelName, ModelRow] = {}
        self.slots: dict[SlotId, SlotRow] = {}
        self.residencies: dict[tuple[SlotId, ModelName], ResidencyRow] = {}
        self.orders: dict[SlotId, OrdersRow] = {}
        self.leases: dict[LeaseId, LeaseRow] = {}
        self.queues: dict[ModelName, TicketQueue] = {}
        self.shares: dict[ModelName, dict[str, int]] = {}
        """Per model the sessions' virtual finish, while anybody waits for it."""
        self.held: dict[tuple[SlotId, ModelName], dict[LeaseId, int]] = {}
        self.warm: dict[ModelName, dict[LeaseId, int]] = {}
        self.due: Due[LeaseId] = Due()
        self.sessions: dict[str, SessionRow] = {}
        self.ops: dict[str, OperationRow] = {}
        self.tenants: dict[str, TenantRow] = {}
        self.mine: dict[str, dict[LeaseId, int]] = {}
        """``P:mine:<who>``: per API key its live leases, with their arrival numbers."""
        self.kept: dict[str, Due[str]] = {}
        """``P:kept:<who>``: per API key what is kept only to be asked about, by when it was kept."""
        self.lives: dict[LifeId, LifeRow] = {}
        self.places: dict[str, dict[LeaseId, int]] = {}
        """``P:place:<place>``: per request the tickets that a client waits for, with their arrival numbers."""
        self.left: dict[str, dict[LeaseId, int]] = {}
        """``P:left:<place>``, ``P:left:<sh>:<m>``: those whose clients are away, and the lost whose places are kept."""
        self.events: list[EventRow] = []
        """Of the calls since somebody last took them out."""
        self.rings: list[SlotId] = []
        """Slots whose orders changed, since somebody last took them out."""

    def heads(self, model: ModelName) -> list[QueueHead]:
        """The oldest ticket of each class of a model."""
        queue = self.queues.get(model)
        firsts = [queue.first(rank) for rank in range(4)] if queue else []
        return [self.head(first) for first in firsts if first is not None]

    def head(self, lease_id: LeaseId) -> QueueHead:
        """A ticket as ``next_ticket`` sees it."""
        lease = self.leases[lease_id]
        return QueueHead(RANK[lease.priority], lease.arrival, lease.enq, lease.id)

    def turn(self, model: ModelName) -> QueueHead | None:
        """The ticket whose turn it is while everybody is admitted."""
        queue = self.queues.get(model)
        first = queue.next_in_turn() if queue else None
        return None if first is None else self.head(first)

    def residency(self, slot: SlotId, model: ModelName) -> ResidencyRow:
        """The record of a model on a slot; an absent one when there is none."""
        return self.residencies.get((slot, model)) or ResidencyRow()

    @property
    def known(self) -> Meta:
        """``meta`` of an initialised pool."""
        assert self.meta is not None
        return self.meta
