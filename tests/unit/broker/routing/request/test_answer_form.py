"""How deep the schema of an answer is, and whether it is but a label, wherever clients put it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.routing.request.answer_form import LONGEST_REFERENCE, MOST_NODES, MOST_REFERENCES, AnswerForm, form_of

LABEL = {"type": "object", "properties": {"label": {"enum": ["spam", "ham"]}, "confidence": {"type": "number"}}}
TEXT = {"type": "string"}
FLAT = {"type": "object", "properties": {"name": {"type": "string"}, "city": {"type": "string"}}}
DEEP = {
    "type": "object",
    "properties": {"orders": {"type": "array", "items": {"type": "object", "properties": {"lines": {
        "type": "array", "items": {"type": "object", "properties": {"sku": {"type": "string"}}}}}}}},
}  # fmt: skip
REFERRED = {
    "type": "object",
    "properties": {"node": {"$ref": "#/$defs/Node"}},
    "$defs": {
        "Node": {"type": "object", "properties": {"value": {"type": "string"}, "next": {"$ref": "#/$defs/Node"}}}
    },
}


@pytest.mark.parametrize(
    "schema, depth, is_label",
    [
        ({"type": "string"}, 0, False),
        ({"enum": ["a", "b"]}, 0, True),
        ({"type": "boolean"}, 0, True),
        (LABEL, 1, True),
        ({"type": "object", "properties": {"labels": {"type": "array", "items": {"enum": ["a"]}}}}, 2, True),
        ({"type": "object", "properties": {"spam": {"type": "boolean"}, "why": {"type": "string"}}}, 1, True),
        ({"type": "object", "properties": {"a": {"enum": [1]}, "b": TEXT, "c": TEXT}}, 1, False),
        (FLAT, 1, False),
        ({"type": "object", "properties": {"names": {"type": "array", "items": {"type": "string"}}}}, 2, False),
        (DEEP, 5, False),
        (REFERRED, 2, False),
        ({"anyOf": [FLAT, DEEP]}, 5, False),
        ({"type": ["object", "null"], "properties": {"x": {"type": ["array", "null"]}}}, 2, False),
        ({"$ref": "#"}, 0, False),
        ({"$ref": "https://example.com/schema"}, 0, False),
        ({"type": "object", "additionalProperties": {"type": "array", "items": [{"type": "object"}]}}, 3, False),
    ],
)  # fmt: skip
def test_the_depth_is_how_many_objects_and_lists_are_within_one_another(schema, depth, is_label):
    found = form_of({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}})
    assert found == AnswerForm(depth=depth, is_given=True, is_label=is_label)


@pytest.mark.parametrize(
    "fields",
    [
        {"response_format": {"type": "json_schema", "json_schema": {"schema": DEEP}}},
        {"response_format": {"type": "json_object", "schema": DEEP}},
        {"text": {"format": {"type": "json_schema", "name": "x", "schema": DEEP}}},
        {"output_config": {"format": {"type": "json_schema", "schema": DEEP}}},
        {"output_format": {"type": "json_schema", "schema": DEEP}},
        {"json_schema": DEEP},
        {"guided_json": DEEP},
        {"structured_outputs": {"json": DEEP}},
    ],
)
def test_it_is_found_where_each_protocol_and_server_has_it(fields):
    assert form_of(fields) == AnswerForm(depth=5, is_given=True)


@pytest.mark.parametrize("fields", [{"guided_choice": ["a", "b"]}, {"structured_outputs": {"choice": ["a", "b"]}}])
def test_a_choice_of_words_is_a_label(fields):
    assert form_of(fields) == AnswerForm(is_given=True, is_label=True)


@pytest.mark.parametrize(
    "fields", [{}, {"response_format": {"type": "json_object"}}, {"response_format": {"type": "text"}}, {"text": "x"}]
)
def test_without_a_schema_there_is_no_depth(fields):
    assert form_of(fields) == AnswerForm()


def test_a_schema_of_any_size_ends():
    table = {f"d{n}": {"type": "object", "properties": {
        a: {"$ref": f"#/$defs/d{(n + 1) % 40}"} for a in "abcdefgh"}} for n in range(40)}  # fmt: skip
    deep: dict = {"type": "string"}
    for _ in range(5000):
        deep = {"type": "array", "items": deep}
    assert form_of({"json_schema": {"$ref": "#/$defs/d0", "$defs": table}}).is_given
    assert form_of({"json_schema": deep}).depth == 5000


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(("object", "array", "x", "#", "#/$defs/a")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(
        ("type", "properties", "items", "anyOf", "$ref", "$defs", "a", "enum", "const", "schema", "json_schema")
    ), inner, max_size=4),
    max_leaves=15,
)  # fmt: skip


@given(st.dictionaries(st.sampled_from(("response_format", "text", "json_schema", "structured_outputs")), anything))
def test_no_shape_of_it_is_an_error(fields):
    assert form_of(fields).depth >= 0


class Counted(list):
    """Counts how many of it are looked at."""

    seen = 0

    def __iter__(self):
        for one in super().__iter__():
            Counted.seen += 1
            yield one


def test_a_large_part_that_is_referred_to_often_is_not_walked_through_each_time():
    table = {"big": {"anyOf": Counted([0] * 5_000)}}
    table |= {f"d{n}": {"allOf": [{"$ref": "#/$defs/big"}, {"$ref": "#/$defs/big"}]} for n in range(2_000)}
    schema = {"anyOf": [{"$ref": f"#/$defs/d{n}"} for n in range(2_000)], "$defs": table}
    Counted.seen = 0
    assert form_of({"json_schema": schema}).is_given
    assert Counted.seen <= MOST_NODES


def test_references_are_followed_so_far_and_no_longer_ones_than_anybody_writes():
    chain = {f"d{n}": {"type": "array", "items": {"$ref": f"#/$defs/d{n + 1}"}} for n in range(500)}
    assert form_of({"json_schema": {"$ref": "#/$defs/d0", "$defs": chain}}).depth == MOST_REFERENCES
    name = "x" * LONGEST_REFERENCE
    assert form_of({"json_schema": {"$ref": f"#/$defs/{name}", "$defs": {name: DEEP}}}).depth == 0
