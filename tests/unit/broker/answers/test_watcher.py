"""What each answer is judged as, shape by shape."""

import json

import pytest

from broker.answers.events import MAX_EVENT, OVERSIZE, EventSplitter
from broker.answers.names import same_model
from broker.answers.verdict import ExpectedAnswer, Passed, Shape, Usage, VerdictReason
from broker.answers.watcher import MAX_WHOLE, Watcher
from tests.unit.broker.answers.answering import JSON, RECORDED, SHAPES, STREAM, delta, judged, message, sse

ROLE = delta(role="assistant", content="")
CALL = {"index": 0, "id": "c", "function": {"name": "look", "arguments": ""}}
START = {"type": "message_start", "message": {"model": "m", "content": [], "usage": {"input_tokens": 3}}}


def block(kind, **fields):
    return {"type": "content_block_delta", "index": 0, "delta": {"type": kind, **fields}}


def stopped(reason):
    return {"type": "message_delta", "delta": {"stop_reason": reason}, "usage": {"output_tokens": 7}}


def completed(output=(), **fields):
    response = {"model": "m", "status": "completed", "output": list(output), **fields}
    return {"type": "response.completed", "response": response}


def whole(**fields):
    return json.dumps(message(**fields)).encode()


def said(*parts):
    return completed([{"type": "message", "content": list(parts)}])


def added(kind, **fields):
    return {"type": "response.output_item.added", "item": {"type": kind, **fields}}


def opened(kind, **fields):
    return {"type": "content_block_start", "content_block": {"type": kind, **fields}}


CUT = completed(status="incomplete", incomplete_details={"reason": "max_output_tokens"})
SIGNED = (block("thinking_delta", thinking="hm"), block("signature_delta", signature="x"))
THOUGHT = {"type": "response.reasoning_text.delta", "delta": "hm"}
FAILED = {"type": "response.failed", "response": {"error": {"code": "x"}}}
ODD = ({"choices": "none", "model": 3}, {"choices": [4, {"delta": [], "finish_reason": 1}]})


@pytest.mark.parametrize(
    "shape, body, reason, passed",
    [
        # chat, streamed
        ("chat", sse(ROLE, delta(content="hi"), delta(finish="stop"), "[DONE]"), "fine", "content"),
        ("chat", sse(ROLE, delta(finish="stop"), "[DONE]"), "no_content", "preamble"),
        ("chat", sse("[DONE]"), "no_content", "preamble"),
        ("chat", b"", "empty", "nothing"),
        ("chat", sse(ROLE, delta(reasoning_content="hm"), delta(finish="length")), "only_reasoning", "reasoning"),
        ("chat", sse(ROLE, delta(reasoning="hm"), delta(finish="stop")), "fine", "reasoning"),
        ("chat", sse(ROLE, delta(reasoning=" "), delta(finish="stop")), "no_content", "reasoning"),
        ("chat", sse(delta(reasoning="hm"), delta(content="hi"), delta(finish="length")), "fine", "content"),
        ("chat", sse(delta(content=" \n"), delta(finish="stop")), "no_content", "preamble"),
        ("chat", sse(delta(content="\ufffd"), delta(content="\x07\x00"), delta(finish="stop")), "garbage", "preamble"),
        ("chat", sse(delta(content="\ufffd"), delta(content="\u00e9")), "fine", "content"),
        ("chat", sse(delta(tool_calls=[CALL]), delta(finish="tool_calls")), "fine", "content"),
        ("chat", sse(delta(function_call={"arguments": "{"})), "fine", "content"),
        ("chat", sse(delta(tool_calls=[{"index": 0}]), delta(finish="stop")), "no_content", "preamble"),
        ("chat", sse(delta(refusal="I will not")), "fine", "content"),
        ("chat", sse(delta(content=[{"type": "text", "text": "hi"}])), "fine", "content"),
        ("chat", sse(delta(audio={"data": "AAAA"})), "fine", "content"),
        ("chat", sse(ROLE, delta(finish="content_filter")), "fine", "preamble"),
        ("chat", sse(delta(content="hi", model="other")), "wrong_model", "content"),
        ("chat", sse(delta(content="hi"), {"error": {"code": 500, "message": "secret"}}), "error_inside", "content"),
        ("chat", sse({"error": "broken"}), "error_inside", "preamble"),
        ("chat", sse("proxy error: failed to read"), "garbage", "preamble"),
        ("chat", sse(ROLE, "{}", "[]", "null"), "garbage", "preamble"),
        ("chat", sse("[" * 5000), "garbage", "preamble"),
        ("chat", sse(*ODD), "no_content", "preamble"),
        # chat, whole
        ("chat", whole(content="hi"), "fine", "content"),
        ("chat", whole(content=None), "empty", "content"),
        ("chat", whole(content="", reasoning="hm", finish="length"), "only_reasoning", "content"),
        ("chat", whole(content=None, tool_calls=[CALL]), "fine", "content"),
        ("chat", whole(content="hi", model="other"), "wrong_model", "content"),
        ("chat", b'{"error": {"message": "x", "type": "server_error"}}', "error_inside", "content"),
        ("chat", b"<html>Bad gateway</html>", "garbage", "content"),
        ("chat", b'{"choices": [{"message": {"content": "\xff\xfe"}}]}', "garbage", "content"),
        ("chat", b'{"choices": [{"message": {"content": "\xff hi"}}]}', "fine", "content"),
        ("chat", b'{"n": 1e400, "choices": [{"message": {"content": "hi"}}]}', "fine", "content"),
        ("chat", b'{"n": NaN, "choices": [{"message": {"content": "\\ud83d hi"}}]}', "fine", "content"),
        # text
        ("text", sse({"model": "m", "choices": [{"text": "hi"}]}, "[DONE]"), "fine", "content"),
        ("text", sse({"model": "m", "choices": [{"text": "", "finish_reason": "length"}]}), "no_content", "preamble"),
        ("text", b'{"model": "m", "choices": [{"text": "\\u0000"}]}', "garbage", "content"),
        # responses
        ("responses", sse({"type": "response.output_text.delta", "delta": "hi"}, completed()), "fine", "content"),
        ("responses", sse(THOUGHT, CUT), "only_reasoning", "reasoning"),
        ("responses", sse(said()), "no_content", "preamble"),
        ("responses", sse(said({"type": "output_text", "text": "hi"})), "fine", "content"),
        ("responses", sse(added("function_call", name="f")), "fine", "content"),
        ("responses", sse(added("reasoning", summary=[])), "no_content", "preamble"),
        ("responses", sse({"type": "response.function_call_arguments.delta", "delta": "{"}), "fine", "content"),
        ("responses", sse({"type": "error", "code": "server_error", "message": "x"}), "error_inside", "preamble"),
        ("responses", sse(FAILED), "error_inside", "preamble"),
        ("responses", b'{"model": "other", "status": "completed", "output": []}', "wrong_model", "content"),
        # messages
        ("messages", sse(START, block("text_delta", text="hi"), stopped("end_turn")), "fine", "content"),
        ("messages", sse(START, stopped("end_turn"), {"type": "message_stop"}), "no_content", "preamble"),
        ("messages", sse(START, *SIGNED, stopped("max_tokens")), "only_reasoning", "reasoning"),
        ("messages", sse(START, opened("tool_use", name="f", input={})), "fine", "content"),
        ("messages", sse(START, opened("text", text=""), stopped("refusal")), "fine", "preamble"),
        ("messages", sse(START, {"type": "ping"}, {"type": "error", "error": {}}), "error_inside", "preamble"),
        ("messages", b'{"type": "message", "content": [{"type": "text", "text": "hi"}]}', "fine", "content"),
        ("messages", b'{"type": "message", "content": [], "stop_reason": "end_turn"}', "empty", "content"),
        # everything else
        ("whole", b'{"model": "m", "data": [{"embedding": [0.1]}]}', "fine", "content"),
        ("whole", b'{"model": "m", "data": [{"embedding": "AAAA"}]}', "fine", "content"),
        ("whole", b'{"model": "m", "data": [{"embedding": []}]}', "empty", "content"),
        ("whole", b'{"model": "m", "data": []}', "empty", "content"),
        ("whole", b'{"model": "m", "data": [{"embedding": [null, null]}]}', "garbage", "content"),
        ("whole", b'{"model": "m", "results": [{"index": 0, "relevance_score": 0.1}]}', "fine", "content"),
        ("whole", b'{"text": ""}', "fine", "content"),
        ("whole", b"{}", "empty", "content"),
        ("whole", b'{"input_tokens": 25}', "fine", "content"),
        ("whole", b'{"data": [{"b64_json": "AAAA"}]}', "fine", "content"),
    ],
)  # fmt: skip
def test_an_answer_is_judged_as(shape, body, reason, passed):
    verdict = judged(body, Shape(shape))
    assert (verdict.reason, verdict.passed) == (reason, passed)
    assert verdict.failed == (reason != "fine")


@pytest.mark.parametrize(
    "file, usage, finish",
    [
        ("chat.sse", Usage(prompt=25, completion=4, cached=0), "length"),
        ("chat-without-usage.sse", Usage(prompt=25, completion=4, cached=24), "length"),
        ("chat.json", Usage(prompt=25, completion=4, cached=24), "length"),
        ("text.sse", Usage(prompt=6, completion=4, cached=4), "length"),
        ("text.json", Usage(prompt=6, completion=4, cached=5), "length"),
        ("responses.sse", Usage(prompt=25, completion=4, cached=24), "completed"),
        ("responses.json", Usage(prompt=25, completion=4, cached=24), "completed"),
        ("messages.sse", Usage(prompt=25, completion=4, cached=24), "max_tokens"),
        ("messages.json", Usage(prompt=25, completion=4, cached=24), "max_tokens"),
    ],
)
def test_real_answers_are_fine_and_their_tokens_counted(file, usage, finish):
    body = (RECORDED / file).read_bytes()
    verdict = judged(body, SHAPES[file.split("-")[0].split(".")[0]], models=("tiny-a",))
    assert (verdict.reason, verdict.model, verdict.usage) == (VerdictReason.FINE, "tiny-a", usage)
    assert verdict.finish == finish


@pytest.mark.parametrize("file", ["chat.sse", "text.json", "responses.sse", "messages.sse"])
def test_a_real_answer_of_another_model_is_noticed(file):
    verdict = judged((RECORDED / file).read_bytes(), SHAPES[file.split(".")[0]], models=("gemma",))
    assert verdict.reason is VerdictReason.WRONG_MODEL
    assert verdict.blames_model


@pytest.mark.parametrize(
    "status, headers",
    [(400, [JSON]), (503, [JSON]), (206, [STREAM]), (200, [STREAM, (b"content-encoding", b"gzip")])],
)
def test_what_is_no_readable_200_is_not_judged(status, headers):
    verdict = judged(b"anything", Shape.CHAT, status=status, headers=headers)
    assert verdict.reason is VerdictReason.UNJUDGED
    assert not verdict.failed


def test_sound_and_images_are_content_by_their_bytes():
    headers = [(b"content-type", b"audio/mpeg")]
    assert judged(b"\x00\x01", Shape.WHOLE, headers=headers).reason is VerdictReason.FINE
    assert judged(b"", Shape.WHOLE, headers=headers).reason is VerdictReason.EMPTY


def test_an_answer_that_may_be_empty_is_fine():
    assert judged(sse(ROLE, delta(finish="length")), Shape.CHAT, may_be_empty=True).reason is VerdictReason.FINE
    assert judged(b"nonsense", Shape.CHAT, may_be_empty=True).reason is VerdictReason.GARBAGE


def test_only_a_request_is_blamed_for_reasoning_that_ate_its_budget():
    verdict = judged(sse(delta(reasoning="hm"), delta(finish="length")), Shape.CHAT)
    assert verdict.failed
    assert not verdict.blames_model


def test_it_says_at_every_piece_how_much_has_passed_and_when():
    watcher = Watcher(ExpectedAnswer(shape=Shape.CHAT))
    watcher.begin(200, [STREAM], 1.0)
    seen = [watcher.passed]
    for now_s, document in enumerate((ROLE, delta(reasoning="hm"), delta(content="hi"), delta(content="!")), start=2):
        watcher.feed(sse(document), float(now_s))
        seen.append(watcher.passed)
    marks = watcher.end(9.0).marks
    assert seen == [Passed.NOTHING, Passed.PREAMBLE, Passed.REASONING, Passed.CONTENT, Passed.CONTENT]
    assert (marks.begun_s, marks.first_byte_s, marks.first_token_s, marks.first_content_s) == (1.0, 2.0, 3.0, 4.0)


def test_an_abandoned_answer_keeps_what_is_known():
    watcher = Watcher(ExpectedAnswer(shape=Shape.CHAT))
    watcher.begin(200, [STREAM], 0.0)
    watcher.feed(sse(delta(content="hi")) + b"data: {", 1.0)
    verdict = watcher.abandon()
    assert (verdict.reason, verdict.passed, verdict.model) == (VerdictReason.ABANDONED, Passed.CONTENT, "m")


def test_an_error_message_of_a_server_is_never_kept():
    verdict = judged(sse({"error": {"code": "boom", "message": "your prompt was: secret"}}), Shape.CHAT)
    assert "secret" not in repr(verdict)
    assert "boom" in verdict.detail


def test_counts_that_make_no_sense_are_not_taken():
    usage = {"prompt_tokens": -1, "completion_tokens": True, "prompt_tokens_details": {"cached_tokens": 10**12}}
    body = json.dumps({**message(content="hi"), "usage": usage}).encode()
    assert judged(body, Shape.CHAT).usage == Usage()


def test_a_whole_answer_too_large_to_be_read_is_content_and_still_counted():
    vectors = [{"embedding": [0.123456789] * 1000}] * 200
    document = {"model": "m", "data": vectors, "usage": {"prompt_tokens": 8, "total_tokens": 8}}
    body = json.dumps(document).encode()
    assert len(body) > MAX_WHOLE
    verdict = judged(body, Shape.WHOLE, cuts=range(0, len(body), 65536))
    assert (verdict.reason, verdict.model, verdict.usage.prompt) == (VerdictReason.FINE, "m", 8)
    assert judged(body, Shape.WHOLE, models=("other",)).reason is VerdictReason.WRONG_MODEL


def test_an_event_too_large_to_be_kept_is_content():
    splitter = EventSplitter()
    assert splitter.feed(b"data: " + b"x" * (2 * MAX_EVENT)) == []
    assert len(splitter._buffer) < 100
    assert splitter.feed(b"xx\n\ndata: a\n\n") == [OVERSIZE, b"a"]


@pytest.mark.parametrize(
    "stream, data",
    [
        (b"data: a\n\ndata: b\n\n", [b"a", b"b"]),
        (b"data: a\r\n\r\ndata: b\r\n\r\n", [b"a", b"b"]),
        (b"data: a\r\rdata: b\r\r", [b"a", b"b"]),
        (b"data: a\r\n\ndata: b\n\r\n", [b"a", b"b"]),
        (b"data: a\n\rdata: b\r\r\n", [b"a", b"b"]),
        (b"\xef\xbb\xbfdata:a\n\n\n\ndata:  b\n\n", [b"a", b" b"]),
        (b": ping\n\nevent: x\nid: 1\ndata: a\ndata: b\n\n", [b"a\nb"]),
        (b"data: a", [b"a"]),
        (b"data\n\nretry: 3\n\n", []),
    ],
)
def test_events_come_out_of_any_framing_and_any_cut(stream, data):
    for size in range(1, len(stream) + 1):
        splitter = EventSplitter()
        out = [event for start in range(0, len(stream), size) for event in splitter.feed(stream[start : start + size])]
        assert out + splitter.close() == data, size


@pytest.mark.parametrize(
    "answered, expected, same",
    [
        ("gemma", "gemma", True),
        ("Gemma", "gemma", True),
        ("google/gemma", "gemma", True),
        ("/srv/models/gemma.gguf", "gemma", True),
        ("/srv/models/gemma@main", "/srv/models/gemma", True),
        ("gemma:latest", "gemma", True),
        ("gpt-4o-2024-08-06", "gpt-4o", True),
        ("claude-sonnet-4-20250514", "claude-sonnet-4", True),
        ("claude-sonnet-4-20250514", "claude-sonnet-4-latest", True),
        ("mistral-small-2506", "mistral-large-latest", False),
        ("gpt-4o-mini", "gpt-4o", False),
        ("qwen3-8b", "qwen3", False),
        ("qwen3:32b", "qwen3:8b", False),
        ("gemma-q4", "gemma-q8", False),
        ("gpt-4o", "gpt-4o-2024-08-06", False),
    ],
)
def test_names_that_mean_the_same_model(answered, expected, same):
    assert same_model(answered, expected) is same
