"""What the data path decides, without a socket."""

import json
import math
from dataclasses import replace

import pytest

from broker.core.errors import BadArgumentError, UnknownModelError
from broker.core.lease import Priority, Session
from broker.gateway.requests.bearing import bears_s
from broker.gateway.requests.identity import asked_of, priority_for
from broker.gateway.requests.patience import (
    PatienceLimits,
    RequestWait,
    WaitMove,
    at_work,
    in_line,
    silent_until_s,
    waiter_retry_after_s,
    within,
)
from broker.gateway.requests.spans import Spans
from broker.protocol.endpoints import ENDPOINTS, ApiEndpoint, Dialect, EventShape
from broker.protocol.error_bodies import ClientError, last_event
from broker.protocol.errors import MalformedError
from broker.protocol.forms import FormError, form_with, multipart_form_of
from broker.protocol.profiles import Profile, Waiting, keepalive, profile_for, takes_role

CHAT = ApiEndpoint(path="/chat/completions", shape=EventShape.CHAT)
MESSAGES = ApiEndpoint(path="/messages", shape=EventShape.MESSAGES, dialect=Dialect.ANTHROPIC)
RESPONSES = ApiEndpoint(path="/responses", shape=EventShape.RESPONSES)
LIMITS = PatienceLimits(commit_after_s=8.0, keepalive_s=5.0, max_silent_s=55.0, max_wait_s=1500.0)


# -------------------------------------------------------------------------------------------------------- reading
def test_only_a_true_stream_streams():
    assert asked_of(b'{"model":"a","stream":true}').stream
    for word in (b"false", b"null", b"1", b'"true"'):
        assert not asked_of(b'{"model":"a","stream":' + word + b"}").stream


def test_names_that_no_catalogue_can_hold_are_unknown_and_the_rest_unreadable():
    for body in (b'{"model":"a b"}', b'{"model":"-a"}', b'{"model":"' + b"a" * 129 + b'"}'):
        with pytest.raises(UnknownModelError):
            asked_of(body)
    for body in (b"", b"[]", b'{"model":1}', b'{"model":"a"', b"[" * 10_000):
        with pytest.raises(MalformedError):
            asked_of(body)


def test_the_class_comes_from_the_header_then_the_key():
    assert priority_for({}, Priority.INTERACTIVE) is Priority.NORMAL
    assert priority_for({}, Priority.BATCH) is Priority.BATCH
    assert priority_for({}, Priority.INTERACTIVE, Priority.BATCH) is Priority.BATCH
    assert priority_for({b"x-hotseat-priority": b" Interactive "}, Priority.INTERACTIVE) is Priority.INTERACTIVE
    assert priority_for({b"x-hotseat-priority": b"-5"}, Priority.INTERACTIVE) is Priority.BATCH
    with pytest.raises(BadArgumentError):
        priority_for({b"x-hotseat-priority": b"6"}, Priority.INTERACTIVE)


S = Session("key", "s")


def test_spans_are_known_by_their_id_for_a_while_and_for_their_model():
    spans = Spans(limit=2, kept_s=10.0)
    trace = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    spans.register("00f067aa0ba902b7", S, model="p/a", now_s=0.0)
    assert spans.session_of(trace, "key", "a", 10.0) == "s"
    assert spans.session_of(trace, "key", "b", 1.0) is None
    assert spans.session_of(trace, "key", "a", 10.1) is None
    assert spans.session_of(trace.upper(), "key", "a", 1.0) is None
    for number in range(2):
        spans.register(f"{number:016x}", S, model="a", now_s=0.0)
    assert spans.session_of(trace, "key", "a", 1.0) is None


def test_a_span_counts_for_the_key_that_registered_it_and_a_flood_of_one_key_forgets_its_own():
    spans, trace = Spans(limit=10), b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    spans.register("00f067aa0ba902b7", S, model="a", now_s=0.0)
    spans.register("00f067aa0ba902b7", Session("stranger", "theirs"), model="a", now_s=0.0)
    assert spans.session_of(trace, "key", "a", 1.0) == "s"
    for number in range(100):
        spans.register(f"{number:016x}", Session("stranger", "theirs"), model="a", now_s=0.0)
    assert spans.session_of(trace, "key", "a", 1.0) == "s"
    assert spans.session_of(trace, "stranger", "a", 1.0) is None


# ---------------------------------------------------------------------------------------------------------- forms
def test_a_forms_short_fields_are_read_and_its_files_left_alone():
    body = (
        b'--B\r\nContent-Disposition: form-data; name="file"; filename="a;name=\\"x"\r\n\r\n\x00--B\r\n--\xff\r\n'
        b'--B\r\ncontent-disposition: form-data; name="model"\r\n\r\nwhisper\r\n'
        b'--B\r\ncontent-disposition: form-data; name="model"\r\n\r\nother\r\n--B--\r\n'
    )
    form = multipart_form_of(body, b'multipart/form-data; boundary="B"', frozenset({"model"}))
    assert form.texts == {"model": "whisper"}
    assert [body[begin:end] for begin, end in form.places["model"]] == [b"whisper", b"other"]
    renamed = b"".join(form_with(body, form.places["model"], b"w"))
    assert renamed == body.replace(b"whisper", b"w").replace(b"other", b"w")
    assert b"".join(form_with(body, (), b"w")) == body
    with pytest.raises(FormError):
        multipart_form_of(body[:-8], b"multipart/form-data; boundary=B", frozenset({"model"}))


# ------------------------------------------------------------------------------------------------------- patience
WAITS = [
    (RequestWait(waited_s=0.0, may_commit=True), WaitMove.HOLD, 8.0),
    (RequestWait(waited_s=8.0, may_commit=True), WaitMove.COMMIT, 0.0),
    (RequestWait(waited_s=8.0, may_commit=False), WaitMove.HOLD, 47.0),
    (RequestWait(waited_s=55.0, may_commit=False), WaitMove.SEND_AWAY, 0.0),
    (RequestWait(waited_s=8.0, may_commit=True, doubtful=True), WaitMove.SEND_AWAY, 0.0),
    (RequestWait(waited_s=8.0, may_commit=True, earliest_s=1493.0), WaitMove.SEND_AWAY, 0.0),
    (RequestWait(waited_s=8.0, may_commit=True, earliest_s=1491.0), WaitMove.COMMIT, 0.0),
    (RequestWait(waited_s=7.9, may_commit=True, served=False), WaitMove.HOLD, 0.1),
    (RequestWait(waited_s=8.0, may_commit=True, served=False), WaitMove.REFUSE, 0.0),
    (RequestWait(waited_s=55.0, may_commit=False, served=False), WaitMove.REFUSE, 0.0),
    (RequestWait(waited_s=10.0, may_commit=True, spoke_s=8.0), WaitMove.HOLD, 3.0),
    (RequestWait(waited_s=13.0, may_commit=True, spoke_s=8.0, doubtful=True, served=False), WaitMove.KEEPALIVE, 0.0),
    (RequestWait(waited_s=1499.0, may_commit=True, spoke_s=1498.0), WaitMove.HOLD, 1.0),
    (RequestWait(waited_s=1500.0, may_commit=True, spoke_s=1499.0), WaitMove.GIVE_UP, 0.0),
]


@pytest.mark.parametrize("wait, move, pause_s", WAITS)
def test_a_wait_in_line_is_silent_then_begun_or_sent_away(wait, move, pause_s):
    found = in_line(wait, LIMITS)
    assert found[0] is move
    assert found[1] == pytest.approx(pause_s)


def test_an_impatient_client_is_told_before_it_gives_up():
    found = within(LIMITS, 8.0)
    assert (found.commit_after_s, found.keepalive_s, silent_until_s(found, 0.0)) == (4.0, 4.0, 6.0)
    assert found.max_wait_s == LIMITS.max_wait_s
    assert silent_until_s(found, 60.0) == 4.0


def test_a_client_is_held_until_shortly_before_it_gives_up_with_time_for_the_answer():
    as_they_come = within(LIMITS, 600.0)
    assert silent_until_s(as_they_come, 0.0) == 570.0
    assert silent_until_s(as_they_come, 100.0) == 498.0
    assert silent_until_s(as_they_come, 5000.0) == 300.0
    wait = RequestWait(waited_s=60.0, may_commit=False, earliest_s=3000.0)
    assert in_line(wait, as_they_come) == (WaitMove.HOLD, 510.0)
    assert in_line(RequestWait(waited_s=570.0, may_commit=False), as_they_come)[0] is WaitMove.SEND_AWAY


def test_who_bears_nobody_knows_how_much_is_held_below_what_proxies_allow():
    assert silent_until_s(LIMITS, 30.0) == 55.0
    assert silent_until_s(replace(LIMITS, longest_silent_s=20.0), 30.0) == 20.0
    assert silent_until_s(within(LIMITS, math.inf), 0.0) == 570.0
    assert silent_until_s(within(replace(LIMITS, longest_silent_s=50.0), 1800.0), 0.0) == 47.5


def test_no_client_can_ask_for_a_flood_of_keepalives():
    for word in (0.4, 1e-9, 1e-320):
        found = within(LIMITS, word)
        assert (found.commit_after_s, found.keepalive_s, silent_until_s(found, 0.0)) == (0.25, 0.25, 0.25)
    quick = PatienceLimits(commit_after_s=0.1, keepalive_s=0.1, max_silent_s=0.1)
    assert (within(quick, 1e-9).commit_after_s, within(quick, 1e-9).keepalive_s) == (0.1, 0.1)


JS = {b"x-stainless-lang": b"js", b"x-stainless-runtime": b"node", b"user-agent": b"OpenAI/JS 6.49.0"}


@pytest.mark.parametrize(
    "headers, bears",
    [
        ({}, None),
        ({b"x-stainless-read-timeout": b"600"}, 600.0),
        ({b"x-stainless-timeout": b"8.0", b"user-agent": b"Anthropic/Python"}, 8.0),
        ({b"x-stainless-timeout": b"600", **JS}, 300.0),
        ({b"x-stainless-timeout": b"120", **JS}, 120.0),
        ({b"x-stainless-timeout": b"600", **JS, b"x-stainless-runtime": b"deno"}, 600.0),
        ({b"x-litellm-timeout": b"900"}, 900.0),
        ({b"prefer": b"respond-async, wait=90"}, 90.0),
        *(({b"x-stainless-read-timeout": word}, None) for word in (b"", b"none", b"nan", b"0", b"-1", b"NOT_GIVEN")),
        ({b"user-agent": b"curl/8.5.0"}, 600.0),
        ({b"user-agent": b"Wget/1.21"}, 600.0),
        ({b"user-agent": b"python-requests/2.32.3"}, 600.0),
        ({b"user-agent": b"Python/3.12 aiohttp/3.11.2"}, 300.0),
        ({b"user-agent": b"node"}, 300.0),
        ({b"user-agent": b"python-httpx/0.28.1"}, None),
        ({b"user-agent": b"Mozilla/5.0"}, None),
        ({b"user-agent": b"curl/8.5.0", b"prefer": b"wait=5"}, 5.0),
    ],
)
def test_what_a_client_bears_is_what_it_says_else_what_its_kind_is_known_for(headers, bears):
    assert bears_s(headers, 600.0) == bears


def test_a_request_at_work_is_never_sent_away():
    assert at_work(RequestWait(waited_s=9999.0, may_commit=False), LIMITS) == (WaitMove.HOLD, math.inf)
    assert at_work(RequestWait(waited_s=1.0, may_commit=True), LIMITS) == (WaitMove.HOLD, 7.0)
    assert at_work(RequestWait(waited_s=9999.0, may_commit=True, doubtful=True), LIMITS) == (WaitMove.COMMIT, 0.0)
    assert at_work(RequestWait(waited_s=9999.0, may_commit=True, spoke_s=9998.0), LIMITS) == (WaitMove.HOLD, 4.0)


def test_a_client_is_told_to_be_back_before_its_place_is_gone_and_within_a_minute():
    assert waiter_retry_after_s(LIMITS, None, 30.0) == 20
    assert waiter_retry_after_s(LIMITS, 3.2, 30.0) == 4
    assert waiter_retry_after_s(LIMITS, 600.0, 30.0) == 20
    assert waiter_retry_after_s(LIMITS, 600.0, 3600.0) == 60
    assert waiter_retry_after_s(LIMITS, 0.0, 1.0) == 1


def test_who_is_known_to_wait_comes_back_at_once_to_be_held_again():
    assert waiter_retry_after_s(within(LIMITS, 600.0), 3000.0, 3600.0) == 1


# --------------------------------------------------------------------------------------------------------- places


# ------------------------------------------------------------------------------------------------------- profiles
CODEX = {b"originator": b"codex_cli_rs", b"user-agent": b"codex_cli_rs/0.149.1"}


@pytest.mark.parametrize(
    "endpoint, wanted, headers, profile",
    [
        (CHAT, None, {}, Profile.OPENAI),
        (MESSAGES, None, {}, Profile.ANTHROPIC),
        (RESPONSES, None, {}, Profile.COMMENT),
        (RESPONSES, None, CODEX, Profile.OPENAI),
        (RESPONSES, None, {b"user-agent": b"codex-tui/0.139.0"}, Profile.OPENAI),
        (RESPONSES, Profile.COMMENT, CODEX, Profile.COMMENT),
        (CHAT, Profile.ANTHROPIC, {}, Profile.OPENAI),
        (CHAT, Profile.NO_CHOICES, {}, Profile.NO_CHOICES),
        (MESSAGES, Profile.NO_CHOICES, {}, Profile.ANTHROPIC),
        (RESPONSES, Profile.NO_CHOICES, {}, Profile.COMMENT),
        (MESSAGES, Profile.OPENAI, {}, Profile.ANTHROPIC),
        (MESSAGES, Profile.REASONING, {}, Profile.ANTHROPIC),
        (CHAT, Profile.REASONING, {}, Profile.REASONING),
        (RESPONSES, Profile.OPENAI, {}, Profile.OPENAI),
        (MESSAGES, Profile.NONE, {}, Profile.NONE),
    ],
)
def test_a_profile_never_says_what_the_endpoints_parsers_trip_over(endpoint, wanted, headers, profile):
    assert profile_for(endpoint, wanted, headers) is profile


@pytest.mark.parametrize("profile", [Profile.OPENAI, Profile.REASONING])
@pytest.mark.parametrize("with_role", [False, True])
def test_a_keepalive_has_a_choice_without_content_and_a_role_for_javascript_alone(profile, with_role):
    waiting = Waiting(lease_id="L", model="a", position=2, eta_s=3.0, created_s=1, with_role=with_role)
    chunk = json.loads(keepalive(profile, EventShape.CHAT, waiting).removeprefix(b"data: "))
    (choice,) = chunk["choices"]
    assert choice["finish_reason"] is None
    assert "content" not in choice["delta"]
    assert choice["delta"].get("role") == ("assistant" if with_role else None)
    text = json.loads(keepalive(profile, EventShape.TEXT, waiting).removeprefix(b"data: "))
    assert text["choices"] == [{"index": 0, "finish_reason": None, "text": "", "logprobs": None}]
    assert takes_role({b"x-stainless-lang": b"js"})
    assert not takes_role({b"x-stainless-lang": b"python"})


@pytest.mark.parametrize("profile", Profile)
def test_keepalives_are_whole_events(profile):
    waiting = Waiting(lease_id="L", model="a", position=2, eta_s=3.0, created_s=1)
    for shape in EventShape:
        frame = keepalive(profile, shape, waiting)
        assert frame == b"" if profile is Profile.NONE else frame.endswith(b"\n\n")
        assert frame.count(b"\n\n") <= 1


# ------------------------------------------------------------------------------------------------ troubles, tokens
@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_the_last_event_is_one_event(endpoint):
    trouble = ClientError(code="upstream_broken", message='it "broke"\n\ndata: x')
    assert last_event(trouble, endpoint).count(b"\n\n") == 1
