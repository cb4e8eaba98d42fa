"""A canary is fair: it asks what a model is for, in more than one way, and only bad answers condemn."""

import wave
from io import BytesIO

import pytest

from broker.answers.verdict import ExpectedAnswer, Shape
from broker.answers.watcher import Watcher
from broker.gateway.trust.canary import (
    NEEDED_TO_CLEAR,
    NEEDED_TO_HEAL,
    Finding,
    concluded,
    finding_of,
    proves_health,
    questions_at,
    questions_for,
    summed_up,
)
from broker.protocol.forms import multipart_form_of
from tests.unit.broker.answers.answering import JSON, STREAM, delta, judged, sse

P, F, V, S = Finding.PASSED, Finding.FAILED, Finding.VOID, Finding.SILENT


@pytest.mark.parametrize(
    "kind, paths",
    [
        ("chat", ["/chat/completions", "/chat/completions", "/completions"]),
        ("completion", ["/completions", "/completions", "/chat/completions"]),
        ("embedding", ["/embeddings", "/embeddings"]),
        ("rerank", ["/rerank", "/rerank"]),
    ],
)
def test_the_questions_fit_the_kind_of_model_and_are_not_all_alike(kind, paths):
    questions = questions_for(kind, "served", names=("m",))
    assert [question.path for question in questions] == paths
    assert len({question.body for question in questions}) == len(paths)
    for question in questions:
        assert question.expected.models == ("m",)
        assert b'"model":"served"' in question.body


def test_where_a_model_was_doubted_it_can_be_asked_too():
    assert [question.path for question in questions_at("/rerank", "served", names=("m",))] == ["/rerank"] * 2
    assert [question.path for question in questions_at("/embeddings", "served", names=("m",))] == ["/embeddings"] * 2
    assert questions_at("/images/generations", "served", names=("m",)) == ()
    assert questions_at("", "served", names=("m",)) == ()


@pytest.mark.parametrize("path", ["/audio/transcriptions", "/audio/translations"])
def test_a_clip_is_a_form_with_a_sound_file_and_silence_is_a_good_answer(path):
    clip, *_ = questions_at(path, "served", names=("m",))
    form = multipart_form_of(clip.body, clip.content_type, frozenset({"model", "response_format", "file"}))
    assert (form.texts["model"], form.texts["response_format"]) == ("served", "json")
    begin, end = form.places["file"][0]
    with wave.open(BytesIO(clip.body[begin:end])) as sound:
        assert (sound.getnchannels(), sound.getsampwidth(), sound.getframerate()) == (1, 2, 16_000)
        assert sound.getnframes() == 8_000
    assert found(200, b'{"text": ""}', clip.expected) is P
    assert found(500, b"oh", clip.expected) is F


def found(status: int, body: bytes, expected: ExpectedAnswer | None = None) -> Finding:
    expected = expected or questions_for("chat", "m", names=())[0].expected
    watcher = Watcher(expected)
    watcher.begin(status, [STREAM if body.startswith(b"data:") else JSON], 0.0)
    watcher.feed(body, 0.0)
    return finding_of(status, body, watcher.end(0.0), expected)


@pytest.mark.parametrize(
    "status, body, finding",
    [
        (400, b'{"error": {"message": "this model does not chat"}}', V),
        (401, b"", V),
        (404, b'{"detail": "Not Found"}', V),
        (404, b'{"message": "The Model `x` does not exist."}', F),
        (405, b"", V),
        (429, b"", V),
        (307, b"", V),
        (500, b"", F),
        (500, b'{"error": {"message": "CUDA error: out of memory"}}', F),
        (500, b'{"error": {"message": "this model does not support chat: no chat template"}}', V),
        (501, b'{"error": {"message": "This server does not support this endpoint"}}', V),
        (502, b"", F),
        (503, b"", V),
        (200, b'{"choices": [{"message": {"content": "ready"}}]}', P),
        (200, b'{"choices": [{"message": {"content": "", "reasoning": "hm"}, "finish_reason": "stop"}]}', P),
        (200, b'{"choices": [{"message": {"content": ""}, "finish_reason": "stop"}]}', F),
        (200, b'{"choices": [{"message": {"content": "\\n"}, "finish_reason": "length"}]}', V),
        (200, b'{"choices": [{"message": {"content": ""}, "finish_reason": "length"}]}', F),
        (200, b'{"choices": [{"message": {"content": ""}, "finish_reason": "content_filter"}]}', V),
        (200, b'{"choices": [{"message": {"content": "\\u0001"}, "finish_reason": "length"}]}', F),
        (200, b'{"error": {"code": 400, "message": "no"}}', V),
        (200, b'{"error": {"code": 500, "message": "no"}}', F),
        (200, b"<html>", F),
    ],
)
def test_who_does_not_take_the_question_has_shown_nothing_but_who_does_not_know_its_model_has_failed(
    status, body, finding
):
    assert found(status, body) is finding


def test_a_text_that_cannot_end_there_is_continued_in_words():
    expected = questions_for("completion", "m", names=())[0].expected
    for text, finding in (("6", P), ("", F), ("\\n", F)):
        body = b'{"choices": [{"text": "%s", "finish_reason": "stop"}]}' % text.encode()
        assert found(200, body, expected) is finding


def test_reasoning_cut_short_is_a_sign_of_life_and_silence_is_not():
    assert proves_health(judged(sse(delta(reasoning="hm"), delta(finish="length")), Shape.CHAT))
    assert not proves_health(judged(sse(delta(finish="stop")), Shape.CHAT))


@pytest.mark.parametrize(
    "findings, to_clear, to_heal",
    [
        ([P], P, P),  # there was no second question to be taken
        ([F, F, F], F, F),
        ([F, F, P], P, F),
        ([F, P, P], P, P),
        ([P, P], P, P),
        ([P, F], P, F),
        ([P, V], P, P),
        ([V, V, V], V, V),
        ([V, F, V], F, F),
        ([S], S, S),
        ([], V, V),
    ],
)
def test_one_good_answer_clears_two_heal_and_only_bad_ones_condemn(findings, to_clear, to_heal):
    for needed, shown in ((NEEDED_TO_CLEAR, to_clear), (NEEDED_TO_HEAL, to_heal)):
        assert concluded(findings, needed) is shown


def test_no_more_is_asked_than_it_takes():
    assert summed_up([F], NEEDED_TO_CLEAR) is None
    assert summed_up([F, P], NEEDED_TO_CLEAR) is P
    assert summed_up([P], NEEDED_TO_HEAL) is None
    assert summed_up([F, S], NEEDED_TO_HEAL) is S
