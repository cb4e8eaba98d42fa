"""The msgspec twins: the same shape as the documented bodies, and strict."""

import json

import msgspec
import pytest
from pydantic import TypeAdapter, ValidationError

from broker.api import activity, spans, views
from broker.core.lease import Intent, Priority
from broker.protocol.errors import InvalidError, MalformedError
from schemas.http import api, sessions

BASE = {"sessionKey": "s", "model": "m"}


def names_of(kind: type) -> set[str]:
    return {field.encode_name for field in msgspec.structs.fields(kind)}


def aliases_of(*kinds: type) -> set[str]:
    return {field.alias for kind in kinds for field in kind.model_fields.values()}


@pytest.mark.parametrize(
    "twin, documented",
    [
        (views.LeaseRequest, [api.LeaseRequest]),
        (views.RenewRequest, [api.RenewByLease, api.RenewBySession]),
        (views.ReleaseRequest, [api.ReleaseByLease, api.ReleaseBySession]),
        (views.Lease, [api.Lease]),
        (views.Endpoint, [api.Endpoint]),
        (spans.SpanRequest, [sessions.SpanRequest]),
        (activity.ActivityRequest, [sessions.ActivityRequest]),
    ],
)
def test_twins_have_the_same_fields(twin, documented):
    assert names_of(twin) == aliases_of(*documented)


CASES = [
    BASE,
    {},
    {**BASE, "priority": 5},
    {**BASE, "priority": 6},
    {**BASE, "priority": "batch"},
    {**BASE, "priority": "none"},
    {**BASE, "priority": 2.0},
    {**BASE, "priority": 2.5},
    {**BASE, "ttlSeconds": 1},
    {**BASE, "ttlSeconds": 0.9},
    {**BASE, "ttlSeconds": 86_400},
    {**BASE, "ttlSeconds": 86_401},
    {**BASE, "ttlSeconds": None},
    {**BASE, "intent": "warm"},
    {**BASE, "intent": "hot"},
    {**BASE, "wait": 300},
    {**BASE, "wait": 301},
    {**BASE, "holder": "agent"},
    {**BASE, "holder": ""},
    {**BASE, "holder": "x" * 129},
    {**BASE, "expectedSeconds": 0},
    {**BASE, "cancelOnDisconnect": True},
    {**BASE, "other": 1},
    {**BASE, "sessionKey": "x" * 256},
    {**BASE, "sessionKey": "x" * 257},
    {**BASE, "sessionKey": "Übung 一 🙂"},
    {**BASE, "sessionKey": "a\u0085"},
    {**BASE, "sessionKey": "{a}"},
    {**BASE, "sessionKey": "a\n"},
    {**BASE, "model": "org/model:7b@q4"},
    {**BASE, "model": "/etc"},
    {**BASE, "model": "m\n"},
]


@pytest.mark.parametrize("body", CASES, ids=str)
def test_twins_accept_the_same_bodies(body):
    try:
        TypeAdapter(api.LeaseRequest).validate_json(json.dumps(body))
        documented = True
    except ValidationError:
        documented = False
    try:
        views.decode(views.body_decoder(views.LeaseRequest), json.dumps(body).encode()).wish()
        accepted = True
    except InvalidError:
        accepted = False
    assert accepted == documented


@pytest.mark.parametrize(
    "body",
    [
        b'{"sessionKey":"s","model":"a","model":"b"}',
        b'{"sessionKey":"s","sessionKey" : "s","model":"a"}',
        b'{"sessionKey":"s","session\\u004bey":"s","model":"a"}',
        b'{"model":"a","sessionKey":"x\\":y","model":"a"}',
    ],
)
def test_doubled_names_are_seen_however_they_are_written(body):
    with pytest.raises(MalformedError):
        views.decode(views.body_decoder(views.LeaseRequest), body)


def test_values_that_look_like_names_are_fine():
    body = json.dumps({"sessionKey": 'x":y":z', "model": "a"}).encode()
    assert views.decode(views.body_decoder(views.LeaseRequest), body).session_key == 'x":y":z'


def test_a_wish_is_the_request_in_our_words():
    asked = msgspec.convert({**BASE, "priority": -3, "intent": "warm", "ttlSeconds": 5}, views.LeaseRequest)
    wish = asked.wish()
    assert (wish.priority, wish.intent, wish.ttl_s, wish.holder) == (Priority.BACKGROUND, Intent.WARM, 5, "")


def test_how_an_answer_is_delivered_is_not_part_of_what_was_asked():
    def hash_of(**more: object) -> str:
        return views.body_hash(msgspec.convert({**BASE, **more}, views.LeaseRequest))

    assert hash_of() == hash_of(wait=5, cancelOnDisconnect=True)
    assert hash_of() != hash_of(ttlSeconds=5)
