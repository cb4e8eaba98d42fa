"""Whose conversation a request belongs to: what real clients send, and what is believed of it."""

import json
import random
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.gateway.requests.conversations import HEADERS, MOST_NEW, MOST_TOLD, NO_SESSIONS, USER_HEADERS, Sightings
from broker.gateway.requests.identity import asked_of, identify
from broker.routing.privacy.sessions import one_session

UUID = "5e7d0000-0000-4000-8000-00000000000"
CLAUDE_CODE = json.dumps({"device_id": "d" * 64, "account_uuid": "", "session_id": UUID + "1"})
numbers = count()


class Client:
    """One caller at one place; each of its requests is another one."""

    def __init__(self, sightings: Sightings | None = None, key: str = "key", address: str = "10.0.0.1") -> None:
        self.sightings = Sightings() if sightings is None else sightings
        self.asker = (key, address)

    def identity(self, headers=None, body=None, *, request=None, span=None):
        sent = {name.encode(): value.encode() for name, value in (headers or {}).items()}
        asked = asked_of(json.dumps({"model": "a", **(body or {})}).encode())
        return identify(sent, asked, self.asker, self.sightings, request or str(next(numbers)), span)

    def session(self, headers=None, body=None, **more):
        return self.identity(headers, body, **more).session


def chat(*texts, system=None):
    messages = [{"role": "system", "content": system}] if system else []
    for number, text in enumerate(texts):
        messages.append({"role": "assistant" if number % 2 else "user", "content": text})
    return {"messages": messages}


WHAT_CLIENTS_SEND = {
    "Hotseat's own": ({"x-hotseat-session": "s1", "x-session-affinity": "other"}, {"user": "u"}, "s1"),
    "OpenClaw": ({"session_id": "s1:0", "x-session-affinity": "s1:0", "x-client-request-id": "s1:0"}, {}, "s1:0"),
    "OpenClaw 2026.7": ({"traceparent": "00-" + "a" * 32 + "-" + "b" * 16 + "-01"}, {"prompt_cache_key": "s1"}, "s1"),
    "Claude Code": (
        {"x-claude-code-session-id": UUID + "1", "x-client-request-id": "fresh", "x-app": "cli"},
        {"metadata": {"user_id": CLAUDE_CODE}},
        UUID + "1",
    ),
    "Claude Code behind a proxy that drops headers": ({}, {"metadata": {"user_id": CLAUDE_CODE}}, UUID + "1"),
    "Claude Code before 2.1": (
        {"x-client-request-id": "fresh"},
        {"metadata": {"user_id": f"user_{'0' * 64}_account_{UUID}9_session_{UUID}2"}},
        UUID + "2",
    ),
    "Codex": (
        {
            "session-id": UUID + "3",
            "thread-id": UUID + "4",
            "x-client-request-id": UUID + "4",
            "originator": "codex_cli",
        },
        {"prompt_cache_key": UUID + "4"},
        UUID + "3",
    ),
    "Codex with a thread alone": ({"thread-id": UUID + "4"}, {}, UUID + "4"),
    "older Codex": ({"conversation_id": UUID + "5", "session_id": UUID + "5"}, {}, UUID + "5"),
    "opencode": ({"x-opencode-session": "ses_1", "x-opencode-request": "msg_fresh"}, {}, "ses_1"),
    "Open WebUI": (
        {"x-openwebui-chat-id": "c1", "x-openwebui-user-id": "u1", "x-openwebui-message-id": "fresh"},
        {},
        "c1",
    ),
    "Open WebUI without a chat": ({"x-openwebui-user-id": "u1"}, {}, "u1"),
    "LiteLLM": ({"x-litellm-session-id": "s1", "x-litellm-trace-id": "fresh"}, {"user": "end-user"}, "s1"),
    "LiteLLM in the body": ({}, {"litellm_session_id": "s1", "user": "end-user"}, "s1"),
    "LiteLLM in metadata": ({}, {"metadata": {"session_id": "s1"}, "user": "end-user"}, "s1"),
    "made for OpenRouter": ({"x-session-id": "s1"}, {"session_id": "s2"}, "s1"),
    "made for OpenRouter, in the body": ({}, {"session_id": "s2"}, "s2"),
    "Qwen Code": ({"x-qwen-code-session-id": "s1"}, {}, "s1"),
    "OpenAI's conversations": ({}, {"conversation": {"id": "conv_1"}, "input": "hi"}, "conv_1"),
    "OpenAI's conversations by name": ({}, {"conversation": "conv_1", "input": "hi"}, "conv_1"),
    "LibreChat": ({}, {"user": "66a1b2", **chat("hi")}, "66a1b2"),
    "OpenAI's safety identifier": ({}, {"safety_identifier": "hash"}, "hash"),
    "Anthropic's user": ({}, {"metadata": {"user_id": "u1"}}, "u1"),
    "an SDK as it comes": ({"x-stainless-lang": "python", "x-request-id": "fresh"}, chat("hi"), "key@10.0.0.1"),
    "curl": ({}, {"prompt": "hi"}, "key@10.0.0.1"),
    "an id of blanks": ({"x-session-affinity": " "}, {"user": "\t", "prompt_cache_key": ""}, "key@10.0.0.1"),
    "ids of other types": (
        {},
        {"user": 7, "metadata": [], "conversation": {"id": None}, "prompt_cache_key": {}, "messages": "hi"},
        "key@10.0.0.1",
    ),
}


@pytest.mark.parametrize("client", WHAT_CLIENTS_SEND)
def test_each_clients_own_id_names_its_session(client):
    headers, body, expected = WHAT_CLIENTS_SEND[client]
    assert Client().session(headers, body) == expected


@pytest.mark.parametrize("client", WHAT_CLIENTS_SEND)
def test_a_request_of_its_own_id_with_each_request_changes_no_session(client):
    headers, body, expected = WHAT_CLIENTS_SEND[client]
    sender = Client()
    seen = {sender.session(headers | {"x-client-request-id": str(n), "x-request-id": str(n)}, body) for n in range(20)}
    assert seen == {expected}


def test_a_registered_span_comes_before_what_a_body_says():
    assert Client().session({}, {"prompt_cache_key": "p"}, span="agent:main") == "agent:main"
    assert Client().session({"session-id": "s"}, {}, span="agent:main") == "s"


def test_blanks_around_an_id_name_no_other_session():
    assert Client().session({"x-hotseat-session": " s1 "}) == "s1"
    assert Client().session({}, {"user": " s1\n"}) == "s1"


def test_blanks_that_no_label_has_do_not_make_another_session_of_it():
    sessions = [
        Client().session({"x-hotseat-session": text}) for text in ("a\nb", "ab", " a\tB", "a" + " " * 300 + "b")
    ]
    assert {one_session(session) for session in sessions} == {"ab"}


@pytest.mark.parametrize("text", ["{x}", "x" * 257, "\x7f"])
def test_a_session_that_cannot_be_a_label_is_replaced_by_its_hash(text):
    found = Client().session({"x-hotseat-session": f".{text}."})
    assert found.startswith("sha256:")
    assert found == Client(key="other").session({"x-hotseat-session": f".{text}."})


# --------------------------------------------------------------------------------------- ids that change every time
PLACES = [*(name.decode() for name, _ in (*HEADERS, *USER_HEADERS)), "x-acme-session-id"]


@pytest.mark.parametrize("place", PLACES)
def test_an_id_that_changes_with_every_request_names_no_session(place):
    client = Client()
    sessions = [client.session({place: f"fresh-{n}"}, chat(f"question {n}")) for n in range(100)]
    assert set(sessions[MOST_NEW:]) == {"key@10.0.0.1"}


@pytest.mark.parametrize("field", ["prompt_cache_key", "session_id", "conversation", "user", "litellm_session_id"])
def test_an_id_of_a_body_that_changes_with_every_request_names_no_session(field):
    client = Client()
    sessions = [client.session({}, {field: f"fresh-{n}"}) for n in range(100)]
    assert set(sessions[MOST_NEW:]) == {"key@10.0.0.1"}


def test_a_steady_id_is_found_behind_one_that_changes():
    client = Client()
    sessions = [client.session({"session_id": f"fresh-{n}"}, {"prompt_cache_key": "steady"}) for n in range(20)]
    assert set(sessions[MOST_NEW:]) == {"steady"}


def test_an_id_that_comes_back_is_believed_again():
    client = Client()
    for n in range(20):
        client.session({"session_id": f"fresh-{n}"})
    assert client.session({"session_id": "fresh-19"}) == "fresh-19"
    assert client.session({"session_id": "new"}) == "new"


def test_one_callers_changing_ids_are_not_anothers():
    sightings = Sightings()
    for n in range(20):
        Client(sightings).session({"session_id": f"fresh-{n}"})
    assert Client(sightings, key="other").session({"session_id": "mine"}) == "mine"
    assert Client(sightings, address="10.0.0.2").session({"session_id": "mine"}) == "mine"


def test_a_retry_is_answered_as_the_first_time_so_that_it_finds_its_place():
    client = Client()
    for n in range(20):
        headers = {"session_id": f"fresh-{n}"}
        first = client.session(headers, request=f"r{n}")
        assert client.session(headers, request=f"r{n}") == first
    assert first == "key@10.0.0.1"


def test_a_chosen_session_is_believed_however_many_there_are():
    client = Client()
    assert {client.session({"x-hotseat-session": f"s{n}"}) for n in range(50)} == {f"s{n}" for n in range(50)}


def test_what_was_private_under_a_doubted_id_stays_private_under_it():
    client = Client()
    for n in range(20):
        doubted = client.identity({"session_id": f"fresh-{n}"})
    believed = client.identity({"session_id": "fresh-19"})
    assert (doubted.session, doubted.marked) == ("key@10.0.0.1", "key@10.0.0.1")
    assert (believed.session, believed.marked) == ("fresh-19", "key@10.0.0.1")


# -------------------------------------------------------------------------------------------- conversations without id
def test_conversations_without_an_id_are_told_apart_once_they_go_on():
    client = Client()
    assert client.session({}, chat("plan a trip")) == client.session({}, chat("mend my code")) == "key@10.0.0.1"
    trip, code = (
        client.session({}, chat("plan a trip", "to?", "Rome")),
        client.session({}, chat("mend my code", "?", "x")),
    )
    assert len({trip, code, "key@10.0.0.1"}) == 3
    assert client.session({}, chat("plan a trip", "to?", "Rome", "when?", "May")) == trip
    assert trip.startswith("key@10.0.0.1#")
    assert not client.identity({}, chat("plan a trip", "to?", "Rome")).named


def test_instructions_that_change_do_not_tell_conversations_apart():
    client = Client()
    found = [client.session({}, chat("hi", *["a", "b"] * n, system=f"It is 12:0{n}.")) for n in range(3)]
    assert len(set(found[1:])) == 1
    assert found[1] != "key@10.0.0.1"


def test_the_same_first_message_of_another_caller_is_another_conversation():
    sightings = Sightings()
    one, other = Client(sightings), Client(sightings, address="10.0.0.2")
    for client in (one, other):
        client.session({}, chat("hi"))
    assert one.session({}, chat("hi", "a", "b")) != other.session({}, chat("hi", "a", "b"))


def test_responses_and_messages_are_told_apart_as_chats_are():
    client = Client()
    for field in ("input", "messages"):
        client.session({}, {field: [{"role": "user", "content": [{"type": "text", "text": field}]}]})
        going_on = [
            {"role": "user", "content": [{"type": "text", "text": field}]},
            {"role": "assistant", "content": "a"},
        ]
        assert client.session({}, {field: going_on}).startswith("key@10.0.0.1#")


def test_a_flood_of_single_questions_is_one_session():
    client = Client()
    assert {client.session({}, chat(f"question {n}")) for n in range(500)} == {"key@10.0.0.1"}


def test_a_caller_has_no_more_sessions_than_are_told_apart():
    client = Client()
    for round_ in range(3):
        seen = {client.session({}, chat(f"q{n}", *["a", "b"] * round_)) for n in range(MOST_TOLD)}
    assert len(seen) == MOST_TOLD
    assert len(client.sightings._told["key", "10.0.0.1"]) == MOST_TOLD
    client.session({}, chat("one more"))
    client.session({}, chat("one more", "a", "b"))
    assert len(client.sightings._told["key", "10.0.0.1"]) == MOST_TOLD


def test_memory_is_bounded_whatever_is_sent():
    sightings = Sightings(limit=50)
    pick = random.Random(1)
    for n in range(3000):
        client = Client(sightings, key=f"k{pick.randrange(200)}", address=f"a{pick.randrange(200)}")
        client.session({pick.choice(PLACES): f"s{pick.randrange(500)}"} if n % 2 else {}, chat(f"q{n}", "a", f"b{n}"))
    assert max(map(len, (sightings._ids, sightings._new, sightings._begun, sightings._told))) <= 50


def test_ids_of_requests_are_in_no_list():
    assert not NO_SESSIONS & {name for name, _ in (*HEADERS, *USER_HEADERS)}


@given(
    body=st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["role", "content", "id", "user", "session_id", "user_id"]), inner, max_size=3
            )
        ),
        max_leaves=12,
    )
)
def test_no_body_makes_it_fail(body):
    fields = ("messages", "input", "metadata", "conversation", "user", "prompt_cache_key", "session_id")
    identity = Client().identity({}, dict.fromkeys(fields, body))
    assert 0 < len(identity.session) <= 256


# ------------------------------------------------------------------------------------------------------------- privacy
def test_an_id_that_one_broker_doubts_and_another_believes_is_private_at_both():
    doubting, believing = Client(), Client()
    for number in range(MOST_NEW + 3):
        doubting.identity({"session-id": f"fresh-{number}"})
    doubted, believed = doubting.identity({"session-id": "S1"}), believing.identity({"session-id": "s1"})
    assert (doubted.session, believed.session) == ("key@10.0.0.1", "s1")
    shared = {one_session(name) for name in doubted.marks} & {one_session(name) for name in believed.marks}
    assert shared == {"key|s1"}


def test_what_has_no_id_is_private_for_its_key_wherever_it_comes_from():
    here, there = Client().identity(), Client(address="10.0.0.2").identity()
    assert set(here.marks) & set(there.marks) == {"key|key"}
    assert "key|key" not in Client().identity({"x-hotseat-session": "s1"}).marks
    assert "key|key" not in Client().identity({"session-id": "s1"}).marks


def test_what_another_key_calls_the_same_is_another_session():
    mine, yours = Client(), Client(key="other")
    for headers in ({"x-hotseat-session": "s1"}, {"session-id": "s1"}, {}, {"x-hotseat-session": "key"}):
        assert not set(mine.identity(headers).marks) & set(yours.identity(headers).marks)


def test_a_flood_of_one_keys_ids_makes_nobody_elses_unknown():
    sightings = Sightings(limit=100)
    mine, loud = Client(sightings), Client(sightings, key="loud")
    assert [mine.session({"session-id": "s1"}) for _ in range(2)] == ["s1", "s1"]
    for _ in range(MOST_NEW + 2):
        for number in range(200):
            loud.identity({"session-id": f"{next(numbers)}-{number}"})
        assert mine.session({"session-id": "s1"}) == "s1"
