"""Structured output that is checked, and schemas that mean harm."""

import json
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.answers.assembly import assembled
from broker.answers.schema.check import (
    ATTEMPTS,
    MAX_VIOLATIONS,
    MESSAGE_LIMIT,
    Contract,
    SchemaError,
    _texts,
    check,
    schema_of,
    temperature_for,
    violations_told,
    with_temperature,
)
from broker.answers.schema.weight import depth_of
from broker.answers.verdict import Shape
from tests.unit.broker.answers.answering import delta, message, sse

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
TREE = {"type": "object", "properties": {"value": {"type": "integer"}, "left": {"$ref": "#"}, "right": {"$ref": "#"}}}


@pytest.mark.parametrize(
    "text, found",
    [
        ('{"name": "Ada", "age": 36}', []),
        ('{"name": "Ada"}', [("", "required")]),
        ('{"name": "Ada", "age": "36"}', [("/age", "type")]),
        ('{"name": "Ada", "age": -1, "x": 1}', [("/age", "minimum"), ("", "additionalProperties")]),
        ("Sure! Here it is: {}", [("", "json")]),
        ('```json\n{"name": "Ada", "age": 36}\n```', [("", "json")]),
        ("", [("", "json")]),
        ("[" * 100_000, [("", "json")]),
        ('"\ud800"', [("", "json")]),
    ],
)
def test_violations_say_where_and_what(text, found):
    violations = Contract(PERSON).violations(text)
    assert sorted((v.path, v.keyword) for v in violations) == sorted(found)


def test_messages_and_their_number_are_bounded():
    contract = Contract({"items": {"type": "string", "maxLength": 3}})
    violations = contract.violations(json.dumps(["x" * 5000] * 50))
    assert len(violations) == MAX_VIOLATIONS
    assert all(len(v.message) <= MESSAGE_LIMIT for v in violations)
    assert violations[0].path == "/0"


def doubling(levels):
    table = {f"a{n}": {"allOf": [{"$ref": f"#/$defs/a{n + 1}"}] * 2} for n in range(levels)}
    return {"$ref": "#/$defs/a0", "$defs": {**table, f"a{levels}": {"type": "string"}}}


def nested(levels):
    schema = {}
    for _ in range(levels):
        schema = {"properties": {"a": schema}}
    return schema


@pytest.mark.parametrize(
    "schema, complaint",
    [
        ("text", "must be an object"),
        (None, "must be an object"),
        ({"type": "strin"}, "strin"),
        ({"$ref": "http://127.0.0.1:1/schema"}, "only refer to # or #/"),
        ({"$ref": "file:///etc/passwd"}, "only refer to # or #/"),
        ({"$ref": "#/nowhere"}, "refers to nothing"),
        ({"$schema": "http://example.com/other"}, "meta-schema"),
        ({"properties": {"a": {"$id": "x", "$ref": "#"}}}, "only supported at the top"),
        ({"$dynamicRef": "#a"}, "not supported"),
        ({"pattern": "(?=a)b"}, "regex"),
        ({"pattern": "^(a{1,1000}){1,1000}$"}, "regex"),
        ({1: 2}, "key"),
        (doubling(20), "unrolls"),
        (doubling(2000), "recursion"),
        (nested(5000), "recursion"),
        ({"enum": ["x" * 300_000]}, "bytes"),
    ],
)  # fmt: skip
def test_a_schema_that_cannot_be_used_is_the_clients_error(schema, complaint):
    with pytest.raises(SchemaError, match=f"(?i){complaint}"):
        Contract(schema)


def test_patterns_cannot_run_away():
    contract = Contract({"pattern": "^(a+)+$"})
    assert contract.violations(json.dumps("a" * 50_000 + "!"))
    assert not contract.violations(json.dumps("a" * 50_000))


def test_a_schema_that_contains_itself_is_held_against_deep_values():
    contract = Contract(TREE)
    deep = '{"left":' * 60 + '{"value": "x"}' + "}" * 60
    assert [v.keyword for v in contract.violations(deep)] == ["type"]


def test_alternatives_that_contain_themselves_are_bounded_by_depth():
    kinds = [{"properties": {"a": {"$ref": "#"}}, "required": [name]} for name in ("x", "y")]
    contract = Contract({"type": "object", "anyOf": kinds})
    for levels, keyword in ((3, "anyOf"), (14, "schema"), (60, "depth")):
        text = '{"a":' * levels + "1" + "}" * levels
        assert [v.keyword for v in contract.violations(text)] == [keyword]


@pytest.mark.parametrize("value, depth", [(1, 1), ([], 1), ({"a": 1}, 1), ({"a": [1]}, 2), ([[[]], {"a": {}}], 3)])
def test_depth(value, depth):
    assert depth_of(value) == depth


@pytest.mark.parametrize(
    "shape, request_body, schema",
    [
        (Shape.CHAT, {}, None),
        (Shape.CHAT, {"response_format": {"type": "json_object"}}, None),
        (Shape.CHAT, {"response_format": "json_schema"}, None),
        (Shape.CHAT, {"response_format": {"type": "json_schema", "json_schema": {"schema": PERSON}}}, PERSON),
        (Shape.CHAT, {"response_format": {"type": "json_schema", "schema": PERSON}}, PERSON),
        (Shape.CHAT, {"response_format": {"type": "json_object", "schema": PERSON}}, PERSON),
        (Shape.CHAT, {"response_format": {"type": "text"}, "json_schema": PERSON}, PERSON),
        (Shape.CHAT, {"response_format": {"type": "text", "schema": PERSON}}, None),
        (Shape.TEXT, {"json_schema": PERSON}, PERSON),
        (Shape.CHAT, {"structured_outputs": {"json": PERSON}}, PERSON),
        (Shape.CHAT, {"structured_outputs": {"json": json.dumps(PERSON)}}, PERSON),
        (Shape.CHAT, {"structured_outputs": {"regex": "x"}}, None),
        (Shape.CHAT, {"guided_json": json.dumps(PERSON)}, PERSON),
        (Shape.CHAT, dict.fromkeys(["response_format", "json_schema", "structured_outputs", "guided_json"]), None),
        (Shape.MESSAGES, {"json_schema": PERSON}, None),
        (Shape.RESPONSES, {"text": {"format": {"type": "json_schema", "name": "p", "schema": PERSON}}}, PERSON),
        (Shape.RESPONSES, {"response_format": {"type": "json_schema", "schema": PERSON}}, None),
        (Shape.RESPONSES, {"text": 3}, None),
        (Shape.MESSAGES, {"response_format": {"type": "json_schema", "schema": PERSON}}, None),
    ],
)  # fmt: skip
def test_the_schema_a_request_names(shape, request_body, schema):
    assert schema_of(shape, request_body) == schema


@pytest.mark.parametrize("inner", [{}, {"schema": None}, [], 3])
def test_a_format_that_names_no_schema_is_refused(inner):
    with pytest.raises(SchemaError):
        schema_of(Shape.CHAT, {"response_format": {"type": "json_schema", "json_schema": inner}})


GOOD, BAD = '{"name": "Ada", "age": 36}', '{"name": "Ada"}'


@pytest.mark.parametrize(
    "shape, document, keywords",
    [
        (Shape.CHAT, message(content=GOOD), []),
        (Shape.CHAT, message(content=BAD), ["required"]),
        (Shape.CHAT, {"choices": [message(content=text)["choices"][0] for text in (GOOD, BAD)]}, ["required"]),
        (Shape.CHAT, message(content=None, tool_calls=[{"function": {"name": "f"}}]), []),
        (Shape.CHAT, message(content=""), ["content"]),
        (Shape.CHAT, {"choices": [None, 3]}, ["content"]),
        (Shape.CHAT, {"choices": [message(content=text)["choices"][0] for text in (GOOD, "")]}, ["content"]),
        (Shape.CHAT, [], ["content"]),
        (Shape.TEXT, {"choices": [{"text": GOOD}]}, []),
        (Shape.TEXT, {"choices": [{"text": BAD}]}, ["required"]),
        (Shape.RESPONSES, {"output": [{"type": "message", "content": [{"type": "output_text", "text": GOOD}]}]}, []),
        (Shape.RESPONSES, {"output": [{"type": "message", "content": [{"text": BAD}]}]}, ["required"]),
        (Shape.RESPONSES, {"output": [{"type": "function_call"}]}, []),
        (Shape.RESPONSES, {"output": []}, ["content"]),
    ],
)
def test_every_choice_of_an_answer_is_checked(shape, document, keywords):
    assert [v.keyword for v in check(Contract(PERSON), shape, json.dumps(document).encode())] == keywords


def test_an_answer_that_is_no_json_has_no_text():
    assert check(Contract(PERSON), Shape.CHAT, b"\xff")[0].keyword == "content"


@pytest.mark.parametrize(
    "asked, temperatures",
    [
        (None, [1.0, 0.5, 0.25, 0.0, None]),
        (0.8, [0.8, 0.4, 0.2, 0.0, None]),
        (2, [2.0, 1.0, 0.5, 0.0, None]),
        (0, [0.0, None, None, None, None]),
        (-1, [1.0, 0.5, 0.25, 0.0, None]),
        ("hot", [1.0, 0.5, 0.25, 0.0, None]),
        (True, [1.0, 0.5, 0.25, 0.0, None]),
    ],
)
def test_each_attempt_is_cooler_until_there_is_none(asked, temperatures):
    assert [temperature_for(asked, attempt) for attempt in range(1, ATTEMPTS + 2)] == temperatures
    assert temperature_for(asked, 0) is None


def test_only_the_temperature_of_a_request_changes():
    request = {"model": "m", "x": [1], "temperature": 0.8}
    assert json.loads(with_temperature(request, 0.4)) == {"model": "m", "x": [1], "temperature": 0.4}
    assert request["temperature"] == 0.8


def test_a_client_is_told_every_violation():
    (violation,) = violations_told(Contract(PERSON).violations(BAD))
    assert (violation["path"], violation["keyword"], "age" in violation["message"]) == ("", "required", True)


@pytest.mark.parametrize(
    "request_",
    [
        {"output_config": {"format": {"type": "json_schema", "schema": PERSON}}},
        {"output_format": {"type": "json_schema", "schema": PERSON}},
    ],
)
def test_anthropics_requests_name_schemas_too(request_):
    assert schema_of(Shape.MESSAGES, request_) == PERSON
    good, call = {"type": "text", "text": '{"name": "Ada", "age": 36}'}, {"type": "tool_use", "name": "x", "input": {}}
    bad = {"type": "text", "text": '{"name": "Ada"}'}
    found = [
        [v.keyword for v in check(Contract(PERSON), Shape.MESSAGES, json.dumps({"content": blocks}).encode())]
        for blocks in ([good], [call], [{"type": "thinking", "thinking": "hm"}, bad], [])
    ]
    assert found == [[], [], ["required"], ["content"]]


@pytest.mark.parametrize(
    "shape, events, texts",
    [
        (Shape.CHAT, [delta(content="a"), delta(content="b")], ["ab"]),
        (Shape.CHAT, [delta(content=[{"type": "text", "text": "a"}]), delta(content=None)], ["a"]),
        (Shape.CHAT, [delta(tool_calls=[{"function": {"name": "x"}}])], [None]),
        (Shape.CHAT, [{"choices": [{"index": "x", "delta": {"content": "a"}}, 3]}, {"choices": None}], ["a"]),
        (Shape.TEXT, [{"choices": [{"text": "a"}]}, {"choices": [{"text": "b"}]}], ["ab"]),
        (Shape.RESPONSES, [{"type": "response.output_text.delta", "delta": text} for text in "ab"], ["ab"]),
        (Shape.RESPONSES, [{"type": "response.output_item.done", "item": {"type": "function_call"}}], [None]),
        (Shape.MESSAGES, [{"type": "content_block_delta", "index": 0, "delta": {"text": "a"}}], ["a"]),
        (Shape.MESSAGES, [{"type": "content_block_start", "index": 0, "content_block": {"type": "tool_use"}}], [None]),
        (Shape.CHAT, [], []),
    ],
)
def test_what_a_stream_says_when_all_of_it_is_there(shape, events, texts):
    assert _texts(shape, assembled(shape, sse(*events, "[DONE]"))) == texts


@settings(deadline=None)
@given(st.text(min_size=1, max_size=40), st.lists(st.integers(0, 40), max_size=6))
def test_however_a_stream_is_cut_it_is_checked_as_its_whole_text(text, cuts):
    edges = [0, *sorted(cut % (len(text) + 1) for cut in cuts), len(text)]
    pieces = [delta(content=text[start:stop]) for start, stop in pairwise(edges)]
    document = json.dumps(message(content=text)).encode()
    contract = Contract({"type": "integer"})
    assert check(contract, Shape.CHAT, sse(*pieces), streamed=True) == check(contract, Shape.CHAT, document)
