"""What an answer says of its cost."""

import json

import pytest

from broker.gateway.cloud.usage import HEAD, TAIL, Meter, usage_in


@pytest.mark.parametrize(
    "raw, usage",
    [
        (b'{"id":"x","usage":{"prompt_tokens":3,"completion_tokens":4}}', {"prompt_tokens": 3, "completion_tokens": 4}),
        (b'data: {"usage":null}\n\ndata: {"usage":{"prompt_tokens":3}}\n\n', {"prompt_tokens": 3}),
        (b'{"usage" : {"prompt_tokens_details":{"cached_tokens":1}}}', {"prompt_tokens_details": {"cached_tokens": 1}}),
        (json.dumps({"text": '"usage":{"prompt_tokens":1}'}).encode(), None),
        (b'{"usage":{"prompt_tokens":', None),
        (b"", None),
        (b"\xff\xfe", None),
    ],
)
def test_usage_is_found_in_bodies_and_streams_and_not_in_what_was_said(raw, usage):
    assert usage_in(raw) == usage


def test_anthropic_tells_it_in_parts_and_the_last_word_counts():
    start = b'data: {"type":"message_start","message":{"usage":{"input_tokens":9,"output_tokens":1}}}\n\n'
    end = b'data: {"type":"message_delta","usage":{"output_tokens":70}}\n\n'
    meter = Meter()
    for piece in (start, b"data: {}\n\n" * 40_000, end[:20], end[20:]):
        meter.feed(piece)
    assert meter.usage() == {"input_tokens": 9, "output_tokens": 70}


def test_only_the_beginning_and_the_end_are_kept():
    meter = Meter()
    for _ in range(100):
        meter.feed(b"x" * 10_000)
    assert len(meter._head) == HEAD
    assert len(meter._tail) == TAIL
