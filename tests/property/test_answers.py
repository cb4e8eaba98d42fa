"""However an answer is cut into pieces, and whatever it holds, it gets one verdict and passes unchanged."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from broker.answers.verdict import AnswerTimes, ExpectedAnswer, Shape
from broker.answers.watcher import Watcher
from tests.unit.broker.answers.answering import RECORDED, SHAPES, STREAM, delta, judged, message

unhurried = settings(deadline=None)
NOWHEN = AnswerTimes(begun_s=0.0)
CUTS = st.lists(st.integers(0, 10_000), max_size=30)
FILES = sorted(file.name for file in RECORDED.iterdir() if file.name.split(".")[0] in SHAPES)
TEXTS = st.sampled_from(["", " ", "hi", "\ufffd", "\x00", '"usage"', '"error":', "\r\n", "🙂"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["choices", "delta", "content", "type", "usage", "error", "model", "item", "data", "text"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
CHUNKS = st.one_of(
    st.builds(lambda text: delta(content=text), TEXTS),
    st.builds(lambda text: delta(reasoning_content=text), TEXTS),
    st.builds(lambda word: delta(finish=word), st.sampled_from(["stop", "length", "content_filter"])),
    st.builds(lambda text: delta(content=text, model="other"), TEXTS),
    st.builds(lambda count: {**delta(), "usage": {"completion_tokens": count}}, st.integers(-1, 9)),
    st.just({"error": {"code": 500}}),
    JSON,
)
ENDS = st.sampled_from(["\n\n", "\r\n\r\n", "\r\r", "\n\r\n", "\n\n\n"])


@st.composite
def streams(draw):
    parts = []
    for chunk in draw(st.lists(CHUNKS, max_size=8)):
        if draw(st.booleans()):
            parts.append(draw(st.sampled_from([": ping\n\n", "event: x\n", "id: 7\r\n"])))
        text = json.dumps(
            chunk, ensure_ascii=draw(st.booleans()), separators=draw(st.sampled_from([(",", ":"), (", ", ": ")]))
        )
        parts.append(f"data:{draw(st.sampled_from(['', ' ']))}{text}{draw(ENDS)}")
    return ("".join(parts) + draw(st.sampled_from(["", "data: [DONE]\n\n", "data: {", "\r"]))).encode()


def verdict_of(body, shape, cuts, headers=None):
    return replace(judged(body, shape, cuts=cuts, headers=headers), marks=NOWHEN)


@unhurried
@given(streams(), CUTS, st.sampled_from(Shape))
def test_any_cutting_of_a_stream_gives_the_same_verdict(body, cuts, shape):
    assert verdict_of(body, shape, cuts, [STREAM]) == verdict_of(body, shape, (), [STREAM])


@unhurried
@given(st.sampled_from(FILES), CUTS, st.sampled_from(["tiny-a", "gemma"]))
def test_any_cutting_of_a_real_answer_gives_the_same_verdict(file, cuts, model):
    body, shape = (RECORDED / file).read_bytes(), SHAPES[file.split(".")[0]]
    cut = replace(judged(body, shape, cuts=cuts, models=(model,)), marks=NOWHEN)
    assert cut == replace(judged(body, shape, models=(model,)), marks=NOWHEN)
    assert cut.reason == ("fine" if model == "tiny-a" else "wrong_model")


@unhurried
@given(st.sampled_from(FILES))
def test_byte_by_byte_is_a_cutting_too(file):
    body, shape = (RECORDED / file).read_bytes(), SHAPES[file.split(".")[0]]
    whole = judged(body, shape, models=("tiny-a",))
    assert replace(judged(body, shape, cuts=range(len(body)), models=("tiny-a",)), marks=NOWHEN) == replace(
        whole, marks=NOWHEN
    )


@unhurried
@given(st.binary(max_size=300), CUTS, st.sampled_from(Shape), st.booleans())
def test_no_bytes_make_it_fail(body, cuts, shape, streamed):
    headers = [STREAM] if streamed else None
    assert verdict_of(body, shape, cuts, headers) == verdict_of(body, shape, (), headers)


@unhurried
@given(JSON, CUTS, st.sampled_from(Shape))
def test_no_document_makes_it_fail(document, cuts, shape):
    body = json.dumps(document).encode()
    assert verdict_of(body, shape, cuts) == verdict_of(body, shape, ())


@unhurried
@given(st.lists(CHUNKS, max_size=6), st.integers(0, 6))
def test_what_has_passed_never_becomes_less(chunks, marker):
    watcher = Watcher(ExpectedAnswer(shape=Shape.CHAT))
    watcher.begin(200, [STREAM], 0.0)
    order = ["nothing", "preamble", "reasoning", "content"]
    ranks = []
    for chunk in chunks:
        watcher.feed(f"data: {json.dumps(chunk)}\n\n".encode(), 1.0)
        ranks.append(order.index(watcher.passed))
    assert ranks == sorted(ranks)


@unhurried
@given(st.text(min_size=1, max_size=20))
def test_a_text_with_a_visible_character_is_an_answer(text):
    verdict = judged(json.dumps(message(content="a" + text)).encode(), Shape.CHAT)
    assert verdict.reason == "fine"
