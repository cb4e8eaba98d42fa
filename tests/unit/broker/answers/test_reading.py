"""What is wrong with a body is said in words that lead to what wrote it."""

import json

import pytest

from broker.answers.reading import fault_of, without_mark

REASON = ValueError("the parser's own words")


@pytest.mark.parametrize(
    "body, words",
    [
        ('{"model": "a"}'.encode("utf-16"), "UTF-16"),
        ('{"model": "a"}'.encode("utf-16-le"), "UTF-16"),
        ('{"model": "a"}'.encode("utf-16-be"), "UTF-16"),
        (json.dumps({"content": "cut \ud83d"}).encode(), "half a character"),
        (json.dumps({"content": "\ude00 cut"}).encode(), "half a character"),
        (b'{"x": "\\uD83Dx"}', "half a character"),
        (json.dumps({"temperature": float("nan")}).encode(), "NaN"),
        (json.dumps({"logit_bias": [float("-inf")]}).encode(), "NaN"),
        (json.dumps({"content": "\U0001f600 NaN, Infinity"}).encode() + b"}", "the parser's own words"),
        (b"", "the parser's own words"),
        (b"\x00", "the parser's own words"),
    ],
)
def test_the_fault_of_a_body_is_named(body, words):
    assert words in fault_of(body, REASON)


def test_a_byte_order_mark_is_no_part_of_a_body():
    assert without_mark(b"\xef\xbb\xbf{}") == b"{}"
    assert without_mark(b"{}") == b"{}"
