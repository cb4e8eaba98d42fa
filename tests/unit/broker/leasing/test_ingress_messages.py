"""Ingress entries as hooks, pollers and people write them."""

import json

import pytest

from broker.core.lease import Intent, Priority
from broker.leasing.ingress import parse

FLAT = {"type": "lease", "sessionKey": "agent:main", "model": "a"}


def test_flat_fields_and_json_say_the_same():
    flat = parse({**FLAT, "ttlSeconds": "60", "seq": "7", "priority": "5", "holder": "h", "publisher": "hook"})
    same = parse(
        {"json": json.dumps({**FLAT, "ttlSeconds": 60, "seq": 7, "priority": "5", "holder": "h", "publisher": "hook"})}
    )
    assert flat == same
    assert (flat.seq, flat.ttl_seconds, flat.wish().priority) == (7, 60, Priority.INTERACTIVE)


def test_activity_keeps_a_model_warm():
    assert parse({**FLAT, "type": "activity"}).wish().intent is Intent.WARM


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"type": "lease"},
        {**FLAT, "type": "grab"},
        {**FLAT, "ttlSeconds": "0"},
        {**FLAT, "ttlSeconds": "nan"},
        {**FLAT, "ttlSeconds": "inf"},
        {**FLAT, "seq": "-1"},
        {**FLAT, "seq": "x"},
        {**FLAT, "priority": "9"},
        {**FLAT, "priority": "urgent"},
        {**FLAT, "sessionKey": "a\x00b"},
        {**FLAT, "sessionKey": "x" * 3000},
        {**FLAT, "model": "../x"},
        {**FLAT, "publisher": "a b"},
        {**FLAT, "unknown": "1"},
        {**FLAT, "json": "{}"},
        {"json": "{"},
        {"json": "[]"},
        {"json": json.dumps({**FLAT, "seq": {"a": 1}})},
        {"json": '{"type":"lease","type":"release","sessionKey":"s","model":"a"}'},
        {"json": "[" * 2000},
        {f"f{i}": "x" for i in range(30)},
    ],
    ids=lambda fields: str(fields)[:60],
)
def test_malformed_entries_are_refused_with_a_reason(fields):
    with pytest.raises((ValueError, RecursionError)):
        parse(fields).wish()
