"""Requests as they are recorded: every common form is read, credentials stay, and what is none is named."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hotseat.commands.recorded_requests import NotRecordedError, records_of

BODY = {"model": "a", "messages": [{"role": "user", "content": "hi"}]}
ASKED = {"path": "/v1/chat/completions", "body": BODY}


def requests(value):
    text = value if isinstance(value, str) else json.dumps(value)
    found = list(records_of(text))
    assert not [record.trouble for record in found if record.trouble]
    return [record.request for record in found]


@pytest.mark.parametrize(
    "recorded, request_",
    [
        (BODY, {"body": BODY}),
        ({"body": BODY}, {"body": BODY}),
        (ASKED, ASKED),
        ({"url": "https://x.example/v1/messages?beta=true", "body": BODY}, {"path": "/v1/messages", "body": BODY}),
        ({"url": "https://x.example/openai/v1/messages/", "body": BODY}, {"path": "/v1/messages", "body": BODY}),
        ({"url": "/chat/completions", "body": BODY}, {"path": "/chat/completions", "body": BODY}),
        ({"body": json.dumps(BODY)}, {"body": BODY}),
        (
            {"custom_id": "1", "method": "POST", "url": "/v1/embeddings", "body": BODY},
            {**ASKED, "path": "/v1/embeddings"},
        ),
        ({"request": ASKED, "response": {"status": 200}, "key": "k"}, {**ASKED, "key": "k"}),
        ({"request": BODY}, {"body": BODY}),
        (
            {"headers": {"X-Hotseat-Session": "s", "Authorization": "Bearer x", "Cookie": "c"}, "body": BODY},
            {"headers": {"X-Hotseat-Session": "s"}, "body": BODY},
        ),
    ],
)
def test_one_request_is_read_in_every_common_form(recorded, request_):
    assert requests(recorded) == [request_]


def test_lists_lines_and_archives_hold_several():
    other = {"model": "b", "prompt": "x"}
    both = [{"body": BODY}, {"body": other}]
    assert requests([BODY, other]) == both
    assert requests({"requests": [BODY, other]}) == both
    assert requests(f"{json.dumps(BODY)}\n\n{json.dumps(other)}\n") == both
    assert requests(json.dumps(BODY, indent=2)) == [{"body": BODY}]
    assert requests(json.dumps([BODY], indent=2)) == [{"body": BODY}]
    entry = {"request": {
        "method": "POST", "url": "https://h/v1/chat/completions",
        "headers": [{"name": ":authority", "value": "h"}, {"name": "x-hotseat-task", "value": "code"},
                    {"name": "authorization", "value": "Bearer x"}],
        "postData": {"mimeType": "application/json", "text": json.dumps(BODY)}}, "response": {}}  # fmt: skip
    assert requests({"log": {"version": "1.2", "entries": [entry]}}) == [
        {"path": "/v1/chat/completions", "headers": {"x-hotseat-task": "code"}, "body": BODY}
    ]


def test_a_line_that_is_none_is_named_and_the_others_are_read():
    text = f'{json.dumps(BODY)}\n{{"model": \n{json.dumps({"hello": 1})}\n"x"\n{json.dumps({"body": [1]})}\n'
    found = list(records_of(text))
    assert [record.place for record in found] == [f"line {n}" for n in range(1, 6)]
    assert found[0].request == {"body": BODY}
    assert found[1].trouble.startswith("not JSON: Expecting value")
    assert "neither a 'body' nor 'messages'" in found[2].trouble
    assert found[3].trouble == "not an object"
    assert found[4].trouble == "its body is no object"


@pytest.mark.parametrize(
    "text, words", [("", "empty"), (" \n", "empty"), ("x", "neither JSON nor one"), ("3", "must be")]
)
def test_what_holds_no_requests_is_said(text, words):
    with pytest.raises(NotRecordedError, match=words):
        list(records_of(text))


@example({"body": {}})
@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(
        ("request", "body", "headers", "log", "entries", "requests", "url", "key", "model", "postData", "text", "name")
    ), inner, max_size=4),
))  # fmt: skip
def test_no_json_is_an_error_of_ours(value):
    try:
        found = list(records_of(json.dumps(value)))
    except NotRecordedError:
        return
    assert all(bool(record.trouble) != bool(record.request) for record in found)
