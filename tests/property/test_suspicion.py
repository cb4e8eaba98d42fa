"""Trust under any sequence of events; and no party takes a model from others, whatever its answers are."""

import json

from hypothesis import given
from hypothesis import strategies as st

from broker.answers.asking import Asking
from broker.answers.verdict import ExpectedAnswer, Shape
from broker.answers.watcher import Watcher
from broker.gateway.trust.suspicion import (
    Suspicion,
    SuspicionSettings,
    Trust,
    after_bad,
    after_good,
    after_nothing,
    canary_due,
    canary_failed,
    canary_passed,
    canary_sent,
    canary_silent,
    canary_void,
)
from broker.gateway.trust.testimony import MAX_WITNESSES, Complaint, RequestSource
from tests.unit.broker.answers.answering import JSON, STREAM, delta, message, sse

SETTINGS = SuspicionSettings()
SOURCES = [RequestSource(party=party, session=f"{party}/{n}") for party in ("k", "l", "m") for n in range(2)]
CANARIES = {"pass": canary_passed, "fail": canary_failed, "void": canary_void, "silent": canary_silent}
EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["good", "bad", "nothing", "test", *CANARIES]),
        st.sampled_from(SOURCES),
        st.sampled_from("xyz"),
        st.floats(0, 5000),
    ),
    max_size=60,
)


def acted(known, event, source, request, now_s):
    if event == "test":
        return canary_sent(known, now_s) if canary_due(known, now_s) else known
    if event == "bad":
        return after_bad(known, Complaint(source=source, request=request, asked_s=now_s), now_s, SETTINGS)
    if event == "good":
        return after_good(known, source, now_s, SETTINGS)
    if event == "nothing":
        return after_nothing(known, now_s, SETTINGS)
    return CANARIES[event](known, now_s, SETTINGS)


def walk(events):
    known, now_s = Suspicion(), 0.0
    for event, source, request, pause_s in events:
        now_s += pause_s
        known = acted(known, event, source, request, now_s)
        yield event, known, now_s


@given(EVENTS)
def test_it_serves_unless_it_was_quarantined_and_not_yet_healed(events):
    for _, known, _ in walk(events):
        if known.state in {Trust.TRUSTED, Trust.SUSPECT}:
            assert known.serves
        if known.state is Trust.QUARANTINED:
            assert not known.serves


@given(EVENTS)
def test_only_canaries_begin_and_end_a_quarantine(events):
    served = True
    for event, known, _ in walk(events):
        if served and not known.serves:
            assert event in {"fail", "silent"}
        if not served and known.serves:
            assert event == "pass"
        served = known.serves


@given(EVENTS)
def test_a_model_that_passes_its_canary_is_not_quarantined_and_preferred_by_who_did_not_call(events):
    before = Suspicion()
    for event, known, now_s in walk(events):
        if event == "pass" and before.state is Trust.CANARY:
            assert known.state is Trust.TRUSTED
            assert known.is_preferred_by(RequestSource(party="other", session="other"), now_s, SETTINGS)
        before = known


@given(EVENTS)
def test_a_canary_that_shows_nothing_neither_condemns_nor_heals(events):
    before = Suspicion()
    for event, known, _ in walk(events):
        if event == "void":
            assert known.serves == before.serves
            assert known.setbacks == before.setbacks
            assert known.state is not Trust.CANARY
        before = known


@given(EVENTS)
def test_every_model_finds_its_way_back(events):
    known, now_s = Suspicion(), 0.0
    for _, known, now_s in walk(events):  # noqa: B007 - the last ones are used
        pass
    if known.state in {Trust.SUSPECT, Trust.QUARANTINED}:
        now_s = max(now_s, known.next_canary_s)
        assert canary_due(known, now_s)
        known = canary_sent(known, now_s)
    assert canary_passed(known, now_s, SETTINGS).state is Trust.TRUSTED


@given(EVENTS)
def test_what_is_remembered_is_bounded(events):
    for _, known, _ in walk(events):
        assert len(known.said.witnesses) <= MAX_WITNESSES
        assert known.said.in_common(SETTINGS.rules) <= 3 * SETTINGS.suspect_at / 2


# ------------------------------------------------------------------------------------------------------- no lock-out
TOLD = st.sampled_from(["", " ", "hi", "\x01", "\ufffd", None])
FINISHES = st.sampled_from(["stop", "length", "tool_calls", "content_filter", None])
ERRORS = st.sampled_from(
    [{"code": 500, "message": "CUDA error"}, {"code": 400}, "broken", {"type": "overloaded_error"}]
)
CHATS = st.builds(
    lambda content, reasoning, finish, error, streamed: (
        sse({"error": error})
        if error
        else sse(delta(content=content, reasoning=reasoning, finish=finish), "[DONE]")
        if streamed
        else json.dumps(message(content=content, reasoning=reasoning, finish=finish)).encode()
    ),
    TOLD,
    TOLD,
    FINISHES,
    st.none() | ERRORS,
    st.booleans(),
)
ANSWERS = CHATS | st.binary(max_size=40) | st.sampled_from([b"", b'""', b"null", b"[]", b"{}", b"data: x\n\n"])
REQUESTS = st.sampled_from(
    [
        (b'{"messages": [{"role": "user", "content": "hi"}]}', Shape.CHAT, "/chat/completions"),
        (b'{"messages": [{"role": "tool", "content": "ok"}], "tools": [{}]}', Shape.CHAT, "/chat/completions"),
        (b'{"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}', Shape.CHAT, "/chat/completions"),
        (b'{"prompt": "def f(<|fim_middle|>"}', Shape.TEXT, "/completions"),
        (b'{"input": "hi"}', Shape.RESPONSES, "/responses"),
        (b'{"messages": [{"role": "user", "content": "hi"}]}', Shape.MESSAGES, "/messages"),
        (b"--x", Shape.WHOLE, "/audio/transcriptions"),
        (b'{"input": "hi"}', Shape.WHOLE, "/embeddings"),
        (b'{"query": "x", "documents": ["y"]}', Shape.WHOLE, "/rerank"),
    ]
)
STREAMS = st.lists(
    st.tuples(st.integers(0, 80), REQUESTS, ANSWERS, st.sampled_from([200, 200, 200, 400, 500, 502]), st.floats(0, 90)),
    min_size=1,
    max_size=60,
)


def verdict_on(request, answer, status):
    body, shape, path = request
    watcher = Watcher(ExpectedAnswer(shape=shape, models=("m",), asking=Asking(path, body)))
    watcher.begin(status, [STREAM if answer.startswith(b"data:") else JSON], 0.0)
    watcher.feed(answer, 0.0)
    return watcher.end(0.0)


@given(STREAMS, st.booleans())
def test_no_session_and_no_key_can_take_a_healthy_model_from_others(stream, with_keys):
    """Any answers at all to one key's sessions, or to one session without a key; canaries are answered well."""
    known, now_s = Suspicion(), 0.0
    for session, request, answer, status, pause_s in stream:
        now_s += pause_s
        source = (
            RequestSource(party="key", session=f"s{session}") if with_keys else RequestSource(party="s", session="s")
        )
        verdict = verdict_on(request, answer, status)
        if verdict.blames_model:
            complaint = Complaint(source=source, request=repr((request, now_s)), asked_s=now_s)
            known = after_bad(known, complaint, now_s, SETTINGS)
        elif verdict.says_nothing:
            known = after_nothing(known, now_s, SETTINGS)
        elif verdict.vouches:
            known = after_good(known, source, now_s, SETTINGS)
        if canary_due(known, now_s):
            known = canary_passed(canary_sent(known, now_s), now_s, SETTINGS)
        for other in (
            RequestSource(party="other", session="other"),
            RequestSource(party="other", session=source.session),
        ):
            assert known.serves
            assert known.is_preferred_by(other, now_s, SETTINGS)
        assert known.state is Trust.TRUSTED
