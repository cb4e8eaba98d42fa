"""An answer is judged by what was asked: who asks for little, or for what may be nothing, is answered by nothing."""

import json

import pytest

from broker.answers.asking import MAX_READ, Asking
from broker.answers.verdict import ExpectedAnswer, Shape, VerdictReason
from broker.answers.watcher import Watcher
from tests.unit.broker.answers.answering import JSON, STREAM, delta, message, sse

CHAT, TEXT, RESPONSES, MESSAGES = "/chat/completions", "/completions", "/responses", "/messages"
HEARD, EMBEDDINGS, RERANK = "/audio/transcriptions", "/embeddings", "/rerank"
SHAPES = {CHAT: Shape.CHAT, TEXT: Shape.TEXT, RESPONSES: Shape.RESPONSES, MESSAGES: Shape.MESSAGES}
PLAIN = (b"content-type", b"text/plain; charset=utf-8")


def verdict_on(path, request, answer, *, status=200, kind=JSON):
    """On an answer (bytes or a document) to a request (bytes or a document)."""
    asked = request if isinstance(request, bytes) else json.dumps(request).encode()
    body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    watcher = Watcher(ExpectedAnswer(shape=SHAPES.get(path, Shape.WHOLE), models=("m",), asking=Asking(path, asked)))
    watcher.begin(status, [STREAM if body.startswith(b"data:") else kind], 0.0)
    watcher.feed(body, 1.0)
    return watcher.end(2.0)


def said(*turns, **more):
    return {"model": "m", "messages": list(turns), **more}


def user(content):
    return {"role": "user", "content": content}


HI = user("hi")
CALL = {"role": "assistant", "content": None, "tool_calls": [{"id": "c", "function": {"name": "ls"}}]}
RESULT = {"role": "tool", "tool_call_id": "c", "content": "ok"}
USED = {"role": "assistant", "content": [{"type": "tool_use", "id": "c", "name": "ls", "input": {}}]}
GOT = {"type": "tool_result", "tool_use_id": "c", "content": "ok"}
CALLED = {"type": "function_call", "call_id": "c", "name": "ls", "arguments": "{}"}
OUTPUT = {"type": "function_call_output", "call_id": "c", "output": "ok"}

NOTHING = message(content="")
BLANK = message(content=" \n")
CUT = message(content="", finish="length")
NO_TEXT = {"model": "m", "choices": [{"text": "", "finish_reason": "stop"}]}
NO_TEXT_CUT = {"model": "m", "choices": [{"text": "", "finish_reason": "length"}]}
NO_BLOCK = {"model": "m", "type": "message", "content": [], "stop_reason": "end_turn"}
NO_ITEM = {"model": "m", "status": "completed", "output": []}
SILENT = sse(delta(role="assistant", content=""), delta(finish="stop"), "[DONE]")
MARKS = [
    "<|fim_prefix|>a<|fim_suffix|>b<|fim_middle|>",
    "<fim_prefix>a<fim_suffix>b<fim_middle>",
    "<fim-prefix>a<fim-suffix>b<fim-middle>",
    "<PRE> a <SUF>b <MID>",
    "\uff5c<\uff5cfim\u2581begin\uff5c>a<\uff5cfim\u2581hole\uff5c>b<\uff5cfim\u2581end\uff5c>",
    "[SUFFIX]b[PREFIX]a",
    "def f(<FILL_ME>):",
]


@pytest.mark.parametrize(
    "path, request_, answer",
    [
        # a text that is continued, a gap that is filled
        (TEXT, {"prompt": "def f(<|fim_middle|>"}, NO_TEXT),
        (TEXT, {"prompt": "def f(", "suffix": "):"}, NO_TEXT),
        (TEXT, {"prompt": "The end."}, NO_TEXT),
        (TEXT, {"prompt": ["a", "b"]}, NO_TEXT),
        (TEXT, {"prompt": [1, 2, 3]}, NO_TEXT),
        (TEXT, {"prompt": "x"}, sse({"model": "m", "choices": [{"text": "", "finish_reason": "stop"}]}, "[DONE]")),
        *((CHAT, said(user(marks)), NOTHING) for marks in MARKS),
        (CHAT, said(user([{"type": "text", "text": MARKS[0]}])), SILENT),
        # few tokens
        *((CHAT, said(HI, **{name: 1}), CUT) for name in ("max_tokens", "max_completion_tokens", "n_predict")),
        (CHAT, said(HI, max_tokens=0), NOTHING),
        (CHAT, said(HI, max_tokens=16), message(content="\n\n", finish="length")),
        (CHAT, said(HI, max_tokens=1), message(content="\ufffd", finish="length")),
        (TEXT, {"prompt": "x", "max_tokens": 1}, NO_TEXT_CUT),
        (RESPONSES, {"input": "hi", "max_output_tokens": 1}, NO_ITEM),
        (MESSAGES, said(HI, max_tokens=1), NO_BLOCK | {"stop_reason": "max_tokens"}),
        # words that end it, rules that leave nothing to be said
        (CHAT, said(HI, stop=["\n"]), NOTHING),
        (CHAT, said(HI, stop="x"), SILENT),
        (MESSAGES, said(HI, stop_sequences=["x"]), NO_BLOCK | {"stop_reason": "stop_sequence"}),
        *((CHAT, said(HI, **{name: "x"}), NOTHING) for name in ("grammar", "guided_regex", "ebnf", "regex")),
        (CHAT, said(HI, structured_outputs={"choice": ["", "a"]}), NOTHING),
        (CHAT, said(HI, logit_bias={"1": 100}), NOTHING),
        # a tool has answered
        (CHAT, said(HI, CALL, RESULT), NOTHING),
        (CHAT, said(HI, CALL, RESULT), SILENT),
        (CHAT, said(HI, CALL, RESULT), BLANK),
        (CHAT, said(HI, CALL, RESULT, {"role": "system", "content": "go on"}), NOTHING),
        (CHAT, said(HI, CALL, {"role": "function", "name": "ls", "content": "ok"}), NOTHING),
        (MESSAGES, said(HI, USED, user([GOT])), NO_BLOCK),
        (MESSAGES, said(HI, USED, user([GOT, {"type": "text", "text": "reminder"}])), NO_BLOCK),
        (RESPONSES, {"input": [{"role": "user", "content": "hi"}, CALLED, OUTPUT]}, NO_ITEM),
        (RESPONSES, {"previous_response_id": "r", "input": [OUTPUT]}, NO_ITEM),
        # the model has the last word
        (CHAT, said(HI, {"role": "assistant", "content": "All done."}), NOTHING),
        (MESSAGES, said(HI, {"role": "assistant", "content": "{"}), NO_BLOCK),
        # nothing was said
        (CHAT, said(), NOTHING),
        (CHAT, said(user("")), NOTHING),
        (CHAT, said(user([{"type": "text", "text": " "}])), NOTHING),
        (RESPONSES, {"input": ""}, NO_ITEM),
        (EMBEDDINGS, {"input": []}, {"model": "m", "data": []}),
        (EMBEDDINGS, {"input": ""}, {"model": "m", "data": [{"embedding": []}]}),
        (RERANK, {"query": "x", "documents": []}, {"model": "m", "results": []}),
        (RERANK, {"query": "x", "documents": ["a"], "top_n": 0}, {"model": "m", "results": []}),
        (RERANK, {"query": "x", "texts": []}, []),
        ("/audio/speech", {"input": ""}, b""),
        # too large to be read: nobody knows
        (CHAT, b'{"messages": [{"role": "user", "content": "' + b"x" * MAX_READ + b'"}]}', NOTHING),
    ],
)
def test_nothing_is_right_where_the_request_allows_it_and_says_nothing_of_the_model(path, request_, answer):
    verdict = verdict_on(path, request_, answer)
    assert (verdict.reason, verdict.failed, verdict.blames_model) == (VerdictReason.FINE, False, False)
    assert verdict.says_nothing
    assert not verdict.vouches


@pytest.mark.parametrize("answer, kind", [
    (b"", PLAIN), (b"\n", PLAIN), (b"", JSON), (b'""', JSON), (b'{"text": ""}', JSON), (b"null", JSON),
    (b'{"task": "transcribe", "duration": 1.0, "text": "", "segments": []}', JSON),
    (b"", (b"content-type", b"application/x-subrip")),
    (sse({"type": "transcript.text.done", "text": ""}, "[DONE]"), STREAM),
    (sse({"object": "transcription.chunk", "choices": [{"delta": {"content": ""}, "finish_reason": "stop"}]}), STREAM),
])  # fmt: skip
@pytest.mark.parametrize("path", [HEARD, "/audio/translations"])
def test_silence_has_no_words_in_whatever_form(path, answer, kind):
    verdict = verdict_on(path, b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\nm', answer, kind=kind)
    assert (verdict.reason, verdict.says_nothing) == (VerdictReason.FINE, True)


@pytest.mark.parametrize("answer, kind", [
    (b"hi there", PLAIN), (b"hi there", JSON), (b'"hi there"', JSON), (b'{"text": "hi"}', JSON),
    (b"1\n00:00:00,000 --> 00:00:01,000\nhi\n", PLAIN), (b"WEBVTT\n\n", (b"content-type", b"text/vtt")),
    (sse({"type": "transcript.text.delta", "delta": "hi"}), STREAM),
])  # fmt: skip
def test_words_are_heard_in_whatever_form(answer, kind):
    assert verdict_on(HEARD, b"--x", answer, kind=kind).vouches


@pytest.mark.parametrize(
    "path, request_, answer, reason",
    [
        (CHAT, said(HI), NOTHING, "empty"),
        (CHAT, said(HI), SILENT, "no_content"),
        (CHAT, said(HI, CALL, RESULT, {"role": "assistant", "content": "So."}, HI), NOTHING, "empty"),
        (CHAT, said(HI, CALL, RESULT), CUT, "empty"),
        (CHAT, said(HI, max_tokens=500), CUT, "empty"),
        (CHAT, said(HI, max_tokens=2), CUT, "empty"),
        (CHAT, said(HI, max_tokens=17), message(content="\n", finish="length"), "empty"),
        (CHAT, said(HI, max_tokens=2), message(content="\ufffd", finish="length"), "garbage"),
        (CHAT, said(HI, max_tokens=True), CUT, "empty"),
        (CHAT, said(HI, stop=[]), NOTHING, "empty"),
        (CHAT, said(HI, stop=None, logit_bias={}), NOTHING, "empty"),
        (CHAT, said(user("in <b>HTML</b> [1] <middleware>")), NOTHING, "empty"),
        (CHAT, said(user([{"type": "image_url", "image_url": {"url": "x"}}])), NOTHING, "empty"),
        (CHAT, said(HI, max_tokens=500), message(content="", reasoning="hm", finish="length"), "only_reasoning"),
        (TEXT, {"prompt": "x", "max_tokens": 500}, NO_TEXT_CUT, "empty"),
        (MESSAGES, said(HI, max_tokens=500), NO_BLOCK, "empty"),
        (RESPONSES, {"input": "hi"}, NO_ITEM, "empty"),
        (RESPONSES, {"input": [{"role": "user", "content": "hi"}]}, NO_ITEM, "empty"),
        (EMBEDDINGS, {"input": "hi"}, {"model": "m", "data": []}, "empty"),
        (RERANK, {"query": "x", "documents": ["a"]}, {"model": "m", "results": []}, "empty"),
        (HEARD, b"--x", {"error": {"code": 500}}, "error_inside"),
        (CHAT, said(HI), b"null", "garbage"),
        (CHAT, said(HI), b'""', "garbage"),
        (EMBEDDINGS, {"input": "hi"}, b"<html>", "garbage"),
        (CHAT, said(HI), message(content="\ufffd"), "garbage"),
    ],
)
def test_nothing_is_of_no_use_where_something_was_asked_for(path, request_, answer, reason):
    verdict = verdict_on(path, request_, answer)
    assert (verdict.reason, verdict.failed) == (reason, True)


@pytest.mark.parametrize(
    "path, answer",
    [
        (CHAT, message(content="", reasoning_content="so it is 4")),
        (CHAT, sse(delta(reasoning="so it is 4"), delta(finish="stop"))),
        (CHAT, message(content="\n\n", thinking="so it is 4", finish="eos")),
        (CHAT, message(content=None, reasoning_details=[{"type": "reasoning.text", "text": "so"}])),
        (MESSAGES, NO_BLOCK | {"content": [{"type": "thinking", "thinking": "so it is 4", "signature": "x"}]}),
        (RESPONSES, NO_ITEM | {"output": [{"type": "reasoning", "summary": [{"type": "summary_text", "text": "so"}]}]}),
    ],
)
def test_reasoning_in_words_is_content_where_the_client_sees_it(path, answer):
    verdict = verdict_on(path, said(HI, input="hi"), answer)
    assert (verdict.reason, verdict.vouches) == (VerdictReason.FINE, True)


def test_a_thought_that_one_token_cut_is_what_was_asked_for():
    verdict = verdict_on(CHAT, said(HI, max_tokens=1), message(content="", reasoning_content="hm", finish="length"))
    assert (verdict.reason, verdict.failed) == (VerdictReason.FINE, False)


@pytest.mark.parametrize(
    "path, answer",
    [
        (CHAT, message(content=None, reasoning_details=[{"type": "reasoning.encrypted", "data": "AAAA"}])),
        (MESSAGES, NO_BLOCK | {"content": [{"type": "redacted_thinking", "data": "AAAA"}]}),
        (RESPONSES, NO_ITEM | {"output": [{"type": "reasoning", "summary": [], "encrypted_content": "AAAA"}]}),
    ],
)
def test_reasoning_that_nobody_can_read_is_none(path, answer):
    assert verdict_on(path, said(HI, input="hi"), answer).blames_model


@pytest.mark.parametrize(
    "path, answer",
    [
        (CHAT, {"model": "m", "choices": [{"message": {"content": ""}, "logprobs": {"content": [{"token": ""}]}}]}),
        (TEXT, {"model": "m", "choices": [{"text": "", "logprobs": {"token_logprobs": [-1.0]}}]}),
        (CHAT, {"model": "m", "choices": [message(content="")["choices"][0], message(content="hi")["choices"][0]]}),
        (RERANK, [{"index": 0, "score": 0.1}]),
        (EMBEDDINGS, [[0.1, 0.2]]),
    ],
)
def test_probabilities_one_of_several_choices_and_bare_lists_are_content(path, answer):
    assert verdict_on(path, {**said(HI), "input": "x", "query": "x", "documents": ["a"]}, answer).vouches


@pytest.mark.parametrize("word", ["content_filter", "refusal", "SAFETY", "sensitive", "guardrail_intervened"])
def test_what_somebodys_rules_withheld_is_an_answer_and_says_nothing_of_the_model(word):
    verdict = verdict_on(CHAT, said(HI), message(content="", finish=word))
    assert (verdict.reason, verdict.says_nothing) == (VerdictReason.FINE, True)


PARSE = "Failed to parse input at pos 12: <tool_call>"
ARGUMENTS = "Failed to parse tool call arguments as JSON"
TOOLS = {"tools": [{"type": "function", "function": {"name": "x"}}]}


@pytest.mark.parametrize(
    "request_, error, reason",
    [
        (said(HI, **TOOLS), {"code": 500, "message": PARSE, "type": "server_error"}, "unparsed"),
        (said(HI, response_format={"type": "json_object"}), {"code": 500, "message": PARSE}, "unparsed"),
        (said(HI, CALL, RESULT), {"code": 500, "message": ARGUMENTS}, "unparsed"),
        (said(HI), {"code": 500, "message": PARSE}, "error_inside"),
        (said(HI, **TOOLS), {"code": 500, "message": "CUDA error: out of memory"}, "error_inside"),
        (said(HI), {"code": 500, "message": "CUDA error: operation not supported"}, "error_inside"),
        (said(HI), {"type": "overloaded_error"}, "error_inside"),
        (said(HI), {"code": 429}, "error_inside"),
        (said(HI), "broken", "error_inside"),
        (said(HI), {"code": 400, "message": "x"}, "refused_inside"),
        (said(HI), {"type": "exceed_context_size_error"}, "refused_inside"),
        (said(HI), {"code": "context_length_exceeded"}, "refused_inside"),
        (said(HI), {"code": 500, "message": "image input is not supported - hint: mmproj"}, "refused_inside"),
        (said(HI), "the prompt is too long: 9 tokens", "refused_inside"),
    ],
)
def test_an_error_counts_against_the_model_only_where_it_cannot_be_the_requests_doing(request_, error, reason):
    told = sse(delta(content="tok0"), {"error": error})
    for answer in (told, sse({"error": error}), {"error": error}):
        verdict = verdict_on(CHAT, request_, answer)
        assert verdict.reason == reason
        assert verdict.blames_model is (reason == "error_inside")
        assert verdict.failed is (reason != "refused_inside")


@pytest.mark.parametrize(
    "answer",
    [
        message(content="", finish="tool_calls"),
        message(content=None, tool_calls=[], finish="tool_calls"),
        sse(delta(role="assistant", content=None), delta(finish="tool_calls"), "[DONE]"),
    ],
)
def test_a_call_that_the_server_lost_is_not_the_models_fault(answer):
    verdict = verdict_on(CHAT, said(HI, **TOOLS), answer)
    assert (verdict.reason, verdict.failed, verdict.blames_model) == (VerdictReason.UNPARSED, True, False)


@pytest.mark.parametrize(
    "status, request_, body, blames",
    [
        (500, said(HI), {"error": {"message": "CUDA error: out of memory"}}, True),
        (500, said(HI), b"Internal Server Error", True),
        (500, said(HI), b"", True),
        (502, said(HI), b"<html>", True),
        (500, said(HI), {"error": {"code": 500, "message": "image input is not supported"}}, False),
        (500, said(HI, CALL, RESULT), {"error": {"code": 500, "message": ARGUMENTS}}, False),
        (500, said(HI, **TOOLS), {"error": {"code": 500, "message": PARSE}}, False),
        (500, said(HI), {"detail": "prompt is too long"}, False),
        (501, said(HI), {"error": {"message": "no such endpoint"}}, False),
        (503, said(HI), b"", False),
        (400, said(HI), {"error": {"message": "bad"}}, False),
    ],
)
def test_a_5xx_counts_unless_it_is_about_the_request_and_is_the_clients_to_see(status, request_, body, blames):
    verdict = verdict_on(CHAT, request_, body, status=status)
    assert (verdict.blames_model, verdict.failed) == (blames, False)
    assert verdict.reason == ("server_error" if blames else "unjudged")


def test_a_request_is_read_only_when_its_answer_has_nothing_in_it():
    asking = Asking(CHAT, b'{"messages": []}')
    watcher = Watcher(ExpectedAnswer(shape=Shape.CHAT, models=("m",), asking=asking))
    watcher.begin(200, [STREAM], 0.0)
    watcher.feed(sse(delta(content="hi"), delta(finish="stop")), 1.0)
    watcher.end(2.0)
    assert asking._request is None
