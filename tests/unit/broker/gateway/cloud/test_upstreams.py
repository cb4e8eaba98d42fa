"""What an upstream is sent, and what of its answer is none of a client's business."""

import json
from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry

from broker.accounting.answers import AnswerAccounts
from broker.accounting.daily_counts import DailyCounts
from broker.gateway.cloud.upstreams import Clouds, CloudServer, from_upstream
from broker.routing.catalogue import Cloud, Protocol
from broker.routing.request.parameters import Parameters
from broker.store.memory.store import MemoryStore

HEADERS = {
    b"authorization": b"Bearer mine", b"x-api-key": b"mine", b"cookie": b"c=1", b"accept": b"*/*",
    b"content-type": b"application/json", b"traceparent": b"00-1", b"anthropic-version": b"2024-01-01",
    b"x-hotseat-session": b"s", b"user-agent": b"someone", b"x-anything": b"1",
}  # fmt: skip


CLOUD = Cloud(name="big", upstream="u", remote_name="big-2")


def server(protocol: Protocol = Protocol.OPENAI) -> CloudServer:
    return CloudServer(name="u", base_url="https://u.example/v1", api_key="sk-1", protocol=protocol)


def sent(body: bytes, target: str = "/chat/completions", **more):
    return server(**more).request(HEADERS, target, body, CLOUD)


def test_the_clients_credentials_are_replaced_by_the_brokers():
    assert dict(sent(b'{"model":"a"}').headers) == {
        b"accept": b"*/*", b"content-type": b"application/json", b"anthropic-version": b"2024-01-01",
        b"user-agent": b"hotseat", b"authorization": b"Bearer sk-1",
    }  # fmt: skip
    of_anthropics = dict(sent(b'{"model":"a"}', protocol=Protocol.ANTHROPIC).headers)
    assert of_anthropics[b"x-api-key"] == b"sk-1"
    assert b"authorization" not in of_anthropics
    assert "sk-1" not in repr(server())


def test_what_its_name_changes_is_changed_and_the_rest_keeps_its_bytes():
    parameters = Parameters(strip=frozenset({"top_p"}), default={"seed": b"7", "t": b"0"}, set={"effort": b'"low"'})
    body = b'{"model":"a","t":1.0e1,"top_p":0.1,"effort":"high"}'
    request = server().request(HEADERS, "/chat/completions", body, replace(CLOUD, parameters=parameters))
    assert request.body == b'{"model":"big-2","t":1.0e1,"effort":"low","seed":7}'


def test_every_other_field_keeps_its_bytes():
    body = b' {"model":"a","t":1.0e1,"big":12345678901234567890,"s":"\\u00e9","o":{ "x" : [1 ,2] }}'
    assert (
        sent(body).body == b'{"model":"big-2","t":1.0e1,"big":12345678901234567890,"s":"\\u00e9","o":{ "x" : [1 ,2] }}'
    )


@pytest.mark.parametrize(
    "target, path",
    [
        ("/messages", "/messages"),
        ("/messages?beta=true", "/messages?beta=true"),
        ("/messages?key=mine", "/messages"),
        ("/messages?beta=true&key=mine", "/messages"),
    ],
)
def test_no_query_leaves_but_the_harmless_one(target, path):
    assert sent(json.dumps({"model": "a"}).encode(), target).path == path


def test_the_operators_account_is_kept_back():
    headers = [
        (b"content-type", b"x"),
        (b"set-cookie", b"c=1"),
        (b"openai-organization", b"us"),
        (b"x-request-id", b"1"),
    ]
    assert from_upstream(headers) == [(b"content-type", b"x"), (b"x-request-id", b"1")]


def test_each_upstream_has_time_outs_of_its_own_and_a_breaker():
    book = DailyCounts(MemoryStore(clock=lambda: 0.0).days, source="x", every_s=1.0, kept_s=1.0, unix_s=lambda: 0.0)
    clouds = Clouds([server()], AnswerAccounts(CollectorRegistry(), book), head_s=1.0)
    assert clouds.connections["u"].timing is clouds.servers["u"].timing
    for _ in range(5):
        clouds.breakers.fail("u", 0.0)
    assert clouds.breakers.open(1.0) == {"u"}


BETAS = b"claude-code-20250219, interleaved-thinking-2025-05-14,my-password-is-hunter22-2026-01-01,Fast-Mode-2026-02-01"


def headers_of(**given: bytes) -> dict[bytes, bytes]:
    more = {name.replace("_", "-").encode(): value for name, value in given.items()}
    server = CloudServer(name="u", base_url="https://u.example/v1", api_key="", betas=frozenset({b"new-2026-09-01"}))
    return dict(server.request(more, "/x", b'{"model":"a"}', CLOUD).headers)


@pytest.mark.parametrize(
    "name, given, leaves",
    [
        ("accept", b"application/json", b"application/json"),
        ("accept", b"text/event-stream", b"text/event-stream"),
        ("accept", b"application/json, text/plain, */*", b"application/json, text/plain, */*"),
        ("accept", b"application/json;q=0.9, */*; q=0.5", b"application/json;q=0.9, */*;q=0.5"),
        ("accept", b"application/json; note=my-password-is-hunter22", b"application/json"),
        ("accept", b"my/password, */*", b"*/*"),
        ("accept", b"/home/anna/diary.md", None),
        ("anthropic-version", b"2023-06-01", b"2023-06-01"),
        ("anthropic-version", b"hunter22", None),
        ("anthropic-beta", BETAS, b"claude-code-20250219, interleaved-thinking-2025-05-14, fast-mode-2026-02-01"),
        ("anthropic-beta", b"new-2026-09-01", b"new-2026-09-01"),
        ("anthropic-beta", b"hunter22", None),
        ("openai-beta", b"assistants=v2", b"assistants=v2"),
        ("openai-beta", b"responses=experimental, password=hunter22", b"responses=experimental"),
        ("openai-beta", b"/home/anna", None),
        ("content-type", b"application/json; charset=utf-8", b"application/json"),
        ("content-type", b"my-password-is/hunter22", b"application/json"),
        ("user-agent", b"hunter22", b"hotseat"),
    ],
)
def test_a_headers_value_leaves_only_in_a_form_that_is_known(name, given, leaves):
    assert headers_of(**{name.replace("-", "_"): given}).get(name.encode()) == leaves


def test_a_server_that_wants_no_key_gets_none():
    assert headers_of().keys() == {b"content-type", b"user-agent"}
    for protocol in Protocol:
        headers = dict(replace(server(protocol), api_key="").request({}, "/messages", b'{"model":"a"}', CLOUD).headers)
        assert not {b"authorization", b"x-api-key"} & headers.keys()
