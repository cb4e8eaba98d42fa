"""The library's JSON: rows, and what is shown beside them, flat in one; so each is both.

Every number travels as a string (cjson would round long ones).
"""

from types import GenericAlias
from typing import Any

import msgspec

from broker.pool.records.lease_row import LeaseRow
from broker.pool.records.rows import ModelRow, ResidencyRow, SlotRow
from broker.pool.records.shown import HELD_FIELDS, BesideLease, ShownQueue
from broker.store.redis.hashes import struct_of


class HelloWire(msgspec.Struct):
    """What library is loaded."""

    version: int
    hash: str
    schema: int
    initialised: int


class SlotNameWire(msgspec.Struct):
    """Of a slot whose record is otherwise unreadable."""

    slot: str


def _many(kind: Any) -> GenericAlias:
    return GenericAlias(list, kind)


def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind, strict=False)


_LEASE = struct_of("Lease", LeaseRow, BesideLease)
_HELD = struct_of("Held", LeaseRow, only=HELD_FIELDS)
_QUEUE = struct_of("Queue", ShownQueue)
_MODEL = struct_of("Model", ModelRow, queues=_many(_QUEUE), warm=int)
_RESIDENCY = struct_of("Residency", ResidencyRow, model=str, memory_mib=int, waiting_below=int)
_SLOT = struct_of("Slot", SlotRow, residencies=_many(_RESIDENCY), leases=_many(_HELD))
_POOL = struct_of("Pool", now=int, seq=int, arrival=int, queued=int, horizon_ms=int, models=_many(_MODEL),
                  slots=list[msgspec.Raw])  # fmt: skip

LEASE, LEASES, POOL = _decoder(_LEASE), _decoder(_many(_LEASE)), _decoder(_POOL)
SLOT, SLOT_NAME = _decoder(_SLOT), msgspec.json.Decoder(SlotNameWire)
"""Slots are read one by one: what is wrong with one is no reason not to see the others."""
HELLO = msgspec.json.Decoder(HelloWire, strict=False)
VIOLATIONS = msgspec.json.Decoder(list[dict[str, str]])
