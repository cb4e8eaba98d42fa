"""A lease's fields are declared once; what follows from the declaration must hold together."""

from dataclasses import MISSING, fields
from typing import get_type_hints

from broker.core.lease import AcquireRequest, LeaseId, ModelName, Nonce
from broker.pool.records.lease_row import (
    ASK_FIELDS,
    EVENT_WORDS,
    LEASE_FIELDS,
    LINE_WORDS,
    OF_ITS_CLIENT,
    TAKEN_OVER,
    Ask,
    LeaseRow,
)
from broker.store.labels import ask_of, ask_values

EARLIER = (
    "id", "nonce", "session", "sh", "hh", "model", "intent", "holder", "priority", "who", "ttl_ms", "waiter_ttl_ms",
    "estimate_ms", "op", "body", "max_open", "single", "life", "place", "named", "only_warm",
)  # fmt: skip
"""Arguments of ``hotseat1_acquire`` as brokers of an earlier version send them, by their places."""


def test_arguments_that_earlier_brokers_send_keep_their_places():
    assert ASK_FIELDS[: len(EARLIER)] == EARLIER
    later = fields(Ask)[len(EARLIER) :]
    assert all(field.default is not MISSING for field in later), "an earlier broker does not send it"


def test_a_request_tells_every_field_that_is_asked_for_and_no_other():
    request = AcquireRequest(lease_id=LeaseId("L1"), nonce=Nonce("n"), session="s", model=ModelName("a"))
    assert len(ask_values(request)) == len(ASK_FIELDS)
    assert ask_of(request).waiter_ttl_ms == 60_000


def test_what_a_lease_takes_over_is_of_the_same_kind_in_both():
    asked, kept = get_type_hints(Ask), get_type_hints(LeaseRow)
    assert {name: asked[name] for name in TAKEN_OVER} == {name: kept[name] for name in TAKEN_OVER}


def test_only_fields_that_a_lease_has_are_told_of_it():
    assert {*EVENT_WORDS.values(), *LINE_WORDS, *OF_ITS_CLIENT} <= set(LEASE_FIELDS)
