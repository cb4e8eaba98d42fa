"""The requests that are at a model server now, and whose they are, should it die under them."""

from dataclasses import dataclass
from typing import Protocol

from broker.core.lease import LeaseId, LeaseRecord, ModelName, SlotId
from broker.gateway.trust.deaths import Suspect


class Passenger(Protocol):
    """Who can say what a request is like."""

    def suspect(self) -> Suspect:
        """Describe the request; it is looked at only now."""


@dataclass(frozen=True, slots=True)
class Flight:
    """One request at one server."""

    lease: LeaseRecord
    who: Passenger


class Flights:
    """The requests in flight of one broker process, by lease."""

    def __init__(self) -> None:
        self._open: dict[LeaseId, Flight] = {}

    def begin(self, lease: LeaseRecord, who: Passenger) -> None:
        """Remember that a request went out to the lease's model server."""
        self._open[lease.lease_id] = Flight(lease, who)

    def end(self, lease: LeaseRecord) -> None:
        """Forget the request on a lease: it is over, however it ended."""
        self._open.pop(lease.lease_id, None)

    def of(self, lease_id: LeaseId) -> Flight | None:
        """Return the request on a lease; None: there is none."""
        return self._open.get(lease_id)

    def on(self, slot: SlotId, model: ModelName) -> list[Flight]:
        """Return the requests at one model server: those on leases for this model on this slot."""
        return [flight for flight in self._open.values() if (flight.lease.slot, flight.lease.model) == (slot, model)]
