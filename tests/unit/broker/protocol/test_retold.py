"""Errors inside streams are told as the client's parsers know them; everything else passes as it came."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.protocol.endpoints import ENDPOINTS
from broker.protocol.retold import Events, whole

AT = {endpoint.path: endpoint for endpoint in ENDPOINTS}
CHAT, TEXT, RESPONSES, MESSAGES = AT["/chat/completions"], AT["/completions"], AT["/responses"], AT["/messages"]


def event(data, name="", end="\n\n"):
    line = end[: len(end) // 2]
    return ((f"event: {name}{line}" if name else "") + f"data: {json.dumps(data)}{end}").encode()


LLAMA_CPP = event({"error": {"code": 400, "message": "too long", "type": "exceed_context_size_error"}})
OLD_LLAMA_CPP = b'error: {"code":500,"message":"oom","type":"server_error"}\n\n'
VLLM = event({"object": "error", "message": "too long", "type": "BadRequestError", "code": 400})
ANTHROPIC = event({"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}, "error")
TYPED = event({"type": "error", "code": "server_error", "message": "x", "param": None, "sequence_number": 3}, "error")
WORD = event({"choices": [{"index": 0, "delta": {"content": 'an "error": {'}}]})


def through(endpoint, *pieces):
    events = Events(endpoint)
    return b"".join([*(part for piece in pieces for part in events.take([piece])), *events.rest()])


def data_of(frame):
    return json.loads(frame.split(b"data: ")[1])


@pytest.mark.parametrize(
    "endpoint, frame",
    [(CHAT, LLAMA_CPP), (TEXT, LLAMA_CPP), (CHAT, ANTHROPIC), (MESSAGES, ANTHROPIC), (RESPONSES, TYPED), (CHAT, WORD)],
    ids=lambda value: "",
)
def test_what_the_sdk_raises_already_passes_byte_by_byte(endpoint, frame):
    assert through(endpoint, WORD, frame) == WORD + frame


@pytest.mark.parametrize(
    "frame, kind, message",
    [
        (LLAMA_CPP, "invalid_request_error", "too long"),
        (VLLM, "invalid_request_error", "too long"),
        (OLD_LLAMA_CPP, "api_error", "oom"),
        (event({"error": "broken"}), "api_error", "broken"),
        (event({"error": {"message": "slow down", "code": 429}}), "rate_limit_error", "slow down"),
        (event({"error": {"message": "busy", "type": "overloaded_error"}}), "overloaded_error", "busy"),
        (
            event({"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}),
            "overloaded_error",
            "busy",
        ),
        (event({"detail": "gone"}, "error"), "api_error", "gone"),
        (b"event: error\ndata: it broke\n\n", "api_error", "it broke"),
        (event({"error": {"message": "x"}}, end="\r\n\r\n"), "api_error", "x"),
    ],
)
def test_anthropics_sdk_gets_its_own_error_event(frame, kind, message):
    begun = event({"type": "message_start", "message": {}}, "message_start")
    told = through(MESSAGES, begun, frame)
    assert told.startswith(begun)
    assert told[len(begun) :].startswith(b"event: error\ndata: ")
    document = data_of(told[len(begun) :])
    assert document["type"] == "error"
    assert (document["error"]["type"], document["error"]["message"]) == (kind, message)
    assert told.endswith((b"\n\n", b"\r\n\r\n"))


@pytest.mark.parametrize("endpoint", [CHAT, TEXT])
@pytest.mark.parametrize(
    "frame, message, code",
    [
        (VLLM, "too long", 400),
        (OLD_LLAMA_CPP, "oom", 500),
        (event({"error": "broken"}), "broken", None),
        (event({"error": {"detail": "bad", "code": "E"}}), "bad", "E"),
        (event({"message": "flat"}, "error"), "flat", None),
        (b"event: error\ndata: it broke\n\n", "it broke", None),
    ],
)
def test_openais_sdk_gets_an_error_object(endpoint, frame, message, code):
    told = through(endpoint, WORD, frame, b"data: [DONE]\n\n")
    assert told.startswith(WORD)
    error = data_of(told[len(WORD) :].split(b"\n\n")[0])["error"]
    assert (error["message"], error["code"]) == (message, code)
    assert isinstance(error["type"], str)
    assert told.endswith(b"\n\ndata: [DONE]\n\n")


def test_a_response_ends_with_the_typed_event_that_is_raised_too():
    told = data_of(through(RESPONSES, VLLM))
    assert (told["type"], told["message"], told["error"]["message"]) == ("error", "too long", "too long")


@pytest.mark.parametrize("at", range(1, len(VLLM)))
def test_an_error_is_told_wherever_it_is_cut(at):
    """But after a field whose name says nothing: the client has it already."""
    for endpoint in (CHAT, MESSAGES):
        for pieces in ([WORD + VLLM[:at], VLLM[at:]], [WORD, VLLM[:at], VLLM[at:]]):
            told = through(endpoint, *pieces)
            assert told.startswith(WORD)
            if not len(b'data: {"') < at <= len(b'data: {"object": "'):
                error = json.loads(re.search(rb"data: (.*)", told[len(WORD) :])[1])["error"]
                assert error["message"] == "too long"
                assert (b"event: error\n" in told) == (endpoint is MESSAGES)


WORDS = st.lists(
    st.sampled_from([WORD, event({"choices": [{"delta": {"content": "x"}}]}), b": error\n\n", b"data: [DONE]\n\n"])
    | st.text(max_size=12).map(lambda text: event({"choices": [{"delta": {"content": text}}]})),
    max_size=6,
)


@given(WORDS, st.data())
def test_a_stream_without_an_error_passes_as_it_came_however_it_is_cut(frames, data):
    raw = b"".join(frames)
    marks = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=6)))
    pieces = [raw[start:end] for start, end in zip([0, *marks], [*marks, len(raw)], strict=True)]
    assert through(CHAT, *pieces) == raw


@given(st.lists(st.binary(max_size=60), max_size=6))
def test_bytes_that_name_no_error_come_out_at_once_and_as_they_are_cut(pieces):
    pieces = [piece.replace(b"e", b"") for piece in pieces]
    events = Events(CHAT)
    assert [part for piece in pieces for part in events.take([piece])] == pieces
    assert events.rest() == []


def test_what_is_kept_is_bounded():
    events = Events(CHAT)
    sent = sum(len(part) for _ in range(100) for part in events.take([b'data: {"error": "' + b"x" * 10_000]))
    assert sent > 900_000


JSON_HEAD = [(b"content-type", b"application/json"), (b"content-length", b"2"), (b"retry-after", b"3")]


@pytest.mark.parametrize("body", [b'{"error":{"code":400,"message":"m","type":"t"}}', b'{ "error": {"message": "m"} }'])
def test_a_whole_error_in_openais_form_keeps_its_bytes(body):
    assert whole(400, JSON_HEAD, body, CHAT) == (JSON_HEAD, body)


def test_a_whole_error_in_anthropics_form_keeps_its_bytes():
    body = b'{"type":"error","error":{"type":"api_error","message":"m"}}'
    assert whole(500, JSON_HEAD, body, MESSAGES) == (JSON_HEAD, body)


@pytest.mark.parametrize("status", [400, 404, 413, 422, 429, 500, 502, 529])
@pytest.mark.parametrize(
    "body", [b'{"object":"error","message":"m","code":1}', b"m", b"<html><h1>m</h1></html>", b"data: m"]
)
def test_another_form_is_told_anew_with_the_servers_own_message(status, body):
    headers, told = whole(status, [(b"content-type", b"text/html"), *JSON_HEAD[2:]], body, MESSAGES)
    assert json.loads(told)["error"]["message"] == "m"
    assert headers == [
        (b"retry-after", b"3"), (b"content-type", b"application/json"), (b"content-length", b"%d" % len(told)),
    ]  # fmt: skip
    _, told = whole(status, headers, body, CHAT)
    assert json.loads(told)["error"]["message"] == "m"


def test_an_error_without_a_word_says_its_status():
    _, told = whole(502, [], b"", MESSAGES)
    assert json.loads(told)["error"] == {
        "type": "api_error", "message": "the model server answered 502 without a word",
    }  # fmt: skip
