"""Requests that are at a model server now: whose they are, should it die under them."""

from dataclasses import dataclass
from typing import Protocol

from broker.answers.deaths import Suspect
from broker.core.lease import LeaseId, LeaseRecord, ModelName, SlotId


class Passenger(Protocol):
    """Who can say what a request is like."""

    def suspect(self) -> Suspect:
        """The request; it is looked at now."""


@dataclass(frozen=True, slots=True)
class Flight:
    """One request at one server."""

    lease: LeaseRecord
    who: Passenger


class Flights:
    """Of one process, by lease."""

    def __init__(self) -> None:
        self._open: dict[LeaseId, Flight] = {}

    def begin(self, lease: LeaseRecord, who: Passenger) -> None:
        """A request goes out."""
        self._open[lease.lease_id] = Flight(lease, who)

    def end(self, lease: LeaseRecord) -> None:
        """It is over, however."""
        self._open.pop(lease.lease_id, None)

    def of(self, lease_id: LeaseId) -> Flight | None:
        """The request on a lease."""
        return self._open.get(lease_id)

    def on(self, slot: SlotId, model: ModelName) -> list[Flight]:
        """Those at one server."""
        return [flight for flight in self._open.values() if (flight.lease.slot, flight.lease.model) == (slot, model)]
