"""What is kept back of an answer, and for how long."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.answers.head import HeldHead
from broker.answers.verdict import ExpectedAnswer, Shape, VerdictReason
from broker.answers.watcher import Watcher
from tests.unit.broker.answers.answering import JSON, RECORDED, STREAM, delta, message, sse

ROLE, THOUGHT, WORD, END = (
    sse(delta(role="a", content="")),
    sse(delta(reasoning="hm")),
    sse(delta(content="hi")),
    sse("[DONE]"),
)


def passed_on(pieces, *, headers=STREAM, status=200, limit=10_000, shape=Shape.CHAT):
    """What is sent after each piece, what is left, the verdict, and whether another try would be unseen."""
    watcher = Watcher(ExpectedAnswer(shape=shape))
    watcher.begin(status, [headers], 0.0)
    head = HeldHead(watcher, limit=limit)
    sent = [head.take(piece, 1.0) for piece in pieces]
    verdict = head.end(2.0)
    unseen = not head.released
    return sent, head.release(), verdict, unseen


@pytest.mark.parametrize(
    "pieces, sent",
    [
        ([ROLE, WORD, END], [[], [ROLE, WORD], [END]]),
        ([ROLE, THOUGHT, WORD], [[], [ROLE, THOUGHT], [WORD]]),
        ([WORD, WORD], [[WORD], [WORD]]),
        ([ROLE[:9], ROLE[9:] + WORD[:20], WORD[20:]], [[], [], [ROLE[:9], ROLE[9:] + WORD[:20], WORD[20:]]]),
    ],
)
def test_a_stream_is_kept_until_something_can_be_seen(pieces, sent):
    assert passed_on(pieces)[:2] == (sent, [])


def test_a_stream_without_content_is_never_seen():
    sent, left, verdict, unseen = passed_on([ROLE, END])
    assert (sent, left, unseen) == ([[], []], [ROLE, END], True)
    assert verdict.reason is VerdictReason.NO_CONTENT


def test_a_whole_answer_is_kept_to_its_end():
    body = json.dumps(message(content="hi")).encode()
    sent, left, verdict, unseen = passed_on([body[:20], body[20:]], headers=JSON)
    assert (sent, left, unseen) == ([[], []], [body[:20], body[20:]], True)
    assert verdict.reason is VerdictReason.FINE


def test_no_more_is_kept_than_the_limit():
    sent, _, _, unseen = passed_on([ROLE, ROLE, ROLE], limit=len(ROLE))
    assert sent == [[], [ROLE, ROLE], [ROLE]]
    assert not unseen


@pytest.mark.parametrize(
    "headers, status, shape",
    [(JSON, 500, Shape.CHAT), ((b"content-type", b"audio/mpeg"), 200, Shape.WHOLE)],
)
def test_what_cannot_be_judged_is_not_kept(headers, status, shape):
    assert passed_on([b"ab", b"c"], headers=headers, status=status, shape=shape)[0] == [[b"ab"], [b"c"]]


def test_a_client_that_waits_for_too_long_gets_what_there_is():
    watcher = Watcher(ExpectedAnswer(shape=Shape.CHAT))
    watcher.begin(200, [STREAM], 0.0)
    head = HeldHead(watcher, limit=1000)
    assert head.take(ROLE, 1.0) == []
    assert head.release() == [ROLE]
    assert head.take(ROLE, 2.0) == [ROLE]
    assert head.released


@settings(deadline=None)
@given(st.sampled_from(["chat.sse", "chat.json"]), st.lists(st.integers(1, 400), max_size=20), st.integers(0, 3000))
def test_every_byte_comes_out_once_and_in_order(file, sizes, limit):
    body = (RECORDED / file).read_bytes()
    pieces, rest = [], body
    for size in sizes:
        pieces.append(rest[:size])
        rest = rest[size:]
    sent, left, _, _ = passed_on([*pieces, rest], headers=STREAM if file.endswith("sse") else JSON, limit=limit)
    assert b"".join(piece for pieces in (*sent, left) for piece in pieces) == body


@pytest.mark.parametrize("first", [delta(content="hi") | {"model": "other"}, {"error": {"code": 500}}])
def test_what_is_known_to_be_of_no_use_is_kept_though_it_could_be_seen(first):
    watcher = Watcher(ExpectedAnswer(shape=Shape.CHAT, models=("mine",)))
    watcher.begin(200, [STREAM], 0.0)
    head = HeldHead(watcher, limit=1000)
    assert (head.take(sse(first), 1.0), watcher.is_useless) == ([], True)
    assert head.end(2.0).failed
