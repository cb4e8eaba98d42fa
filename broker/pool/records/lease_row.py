"""A lease as the pool keeps it, and what is asked for: the one place where a field of a lease is declared.

What else knows of it follows from here, in both languages: the arguments of ``hotseat1_acquire`` and their order, the
hash ``P:lease:<id>``, what a lease takes over from what was asked, what its events and its line in the table tell.
"""

from dataclasses import dataclass, fields
from typing import NewType

from broker.core.lease import NO_LIFE, Intent, LeaseId, LeaseState, LifeId, ModelName, Priority, SlotId
from broker.core.values import hot_value

Label = NewType("Label", str)
"""Of a client's own words: percent-encoded, bounded."""
NO_WORDS = Label("")


@hot_value
class Ask:
    """An ``AcquireRequest`` in the store's words: hashed, percent-encoded, in milliseconds.

    The order is that of the arguments on the wire, so a new field comes last, with a default: brokers of an earlier
    version do not send it.
    """

    id: LeaseId
    nonce: str
    session: Label
    sh: str
    """Hash of the session and of whose it is."""
    hh: str
    """Hash of the holder, part of the session's index."""
    model: ModelName
    intent: Intent
    holder: Label
    priority: Priority
    who: Label
    ttl_ms: int
    waiter_ttl_ms: int
    estimate_ms: int = 0
    op: str = ""
    """Hash of the API key's name and its idempotency key; empty: none."""
    body: str = ""
    max_open: int = 0
    single: bool = False
    life: LifeId = NO_LIFE
    place: str = ""
    named: bool = False
    only_warm: bool = False
    label: Label = NO_WORDS


@dataclass(slots=True, kw_only=True)
class LeaseRow:
    """``P:lease:<id>``, its fields in the order in which people read them."""

    id: LeaseId
    nonce: str
    state: LeaseState
    reason: str = ""
    session: Label = NO_WORDS
    sh: str
    hh: str
    model: ModelName
    intent: Intent
    holder: Label = NO_WORDS
    priority: Priority
    who: Label
    ttl_ms: int
    estimate_ms: int = 0
    """What the client said; ``expected_ms`` is the same or 0 while its estimates are not trusted."""
    expected_ms: int = 0
    arrival: int
    enq: int
    granted: int = 0
    deadline: int = 0
    ended: int = 0
    slot: SlotId | None = None
    gen: int = 0
    claimed: bool = False
    op: str = ""
    turn: int = 0
    """Virtual start of a ticket: its place among the tickets of its class."""
    cost: int = 0
    """What its session was charged when it entered the line, thousandths of a mean lease; 0: it never waited."""
    single: bool = False
    life: LifeId = NO_LIFE
    """The broker's life it belongs to; empty: its holder's own, or left behind."""
    place: str = ""
    """Of a ticket: fingerprint of the request."""
    named: bool = False
    only_warm: bool = False
    """It waits only while its model is loaded."""
    left: int = 0
    """Left behind: when its client is expected back; 0: somebody attends to it."""
    kept: int = 0
    """Of a ticket that was lost with its broker: until when its place is kept."""
    label: Label = NO_WORDS
    """What it is for, in its client's words."""


LEASE_FIELDS = tuple(field.name for field in fields(LeaseRow))
ASK_FIELDS = tuple(field.name for field in fields(Ask))
OF_TICKETS = frozenset({"place", "named"})
"""Taken over only where the lease waits: whoever is served at once needs no place."""
TAKEN_OVER = tuple(name for name in ASK_FIELDS if name in LEASE_FIELDS and name not in OF_TICKETS)
"""Fields of what was asked that a new lease has too."""
OF_ITS_CLIENT = ("life", "session", "sh", "holder", "hh")
"""What becomes that of the request by which a client comes back."""
EVENT_WORDS = {
    "lease": "id", "model": "model", "slot": "slot", "gen": "gen", "sh": "sh", "intent": "intent", "label": "label",
}  # fmt: skip
"""What every event of a lease tells of it: the event's word, and the field."""
LINE_WORDS = {"session": "", "label": "label="}
"""What its line in the table ends with: the field, and what is in front of it."""
