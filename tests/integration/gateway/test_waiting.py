"""The waiting contract: silence, keepalives that parsers count, 429 with the place kept, errors as the last event."""

import asyncio
import json
import time

import pytest

from broker.core.lease import LeaseId
from broker.principals import Scope
from tests.data_path.waits import measure
from tests.fakes.broker_scene import config_of, key_entry, until
from tests.fakes.gateway_scene import RawClient, gateway_scene
from tests.fakes.scripted_server import DONE, STREAM_HEAD, chunk, stream, whole, word

CHAT = "/v1/chat/completions"
QUICK = {"commit_after_s": 0.1, "keepalive_s": 0.1, "max_silent_s": 0.2, "dead_server_s": 0.3}
SAID = [word("one"), word("two"), DONE]
FAST_BACKOFF = {"load_backoff_s": 0.2}


def body_of(model: str = "a", **more: object) -> dict[str, object]:
    return {"model": model, "messages": [{"role": "user", "content": "hi"}], **more}


def events_of(content: bytes) -> list[bytes]:
    return [frame for frame in content.split(b"\n\n") if frame]


def data_of(frame: bytes) -> dict:
    return json.loads(frame.split(b"data: ", 1)[1])


async def streamed(scene, path=CHAT, headers=None, **more):
    return await scene.client.post(path, json=body_of(stream=True, **more), headers=headers)


async def test_a_short_wait_is_silent_and_leaves_no_trace_in_the_stream():
    async with gateway_scene({"a": [stream(*SAID)]}, load_s=0.3) as scene:
        answer = await streamed(scene)
        assert answer.content == b"".join(SAID)
        assert int(answer.headers["x-hotseat-waited-ms"]) >= 250


KEEPALIVES = {
    ("openai", CHAT): lambda frame: data_of(frame)["choices"] == [],
    ("reasoning", CHAT): lambda frame: "position" in data_of(frame)["choices"][0]["delta"]["reasoning_content"],
    ("comment", CHAT): lambda frame: frame.startswith(b": waiting for a"),
    (None, CHAT): lambda frame: data_of(frame)["object"] == "chat.completion.chunk",
    ("openai", "/v1/completions"): lambda frame: data_of(frame)["object"] == "text_completion",
    (None, "/v1/responses"): lambda frame: frame.startswith(b": waiting for a"),
    (None, "/v1/messages"): lambda frame: frame == b'event: ping\ndata: {"type": "ping"}',
    ("anthropic", "/v1/messages"): lambda frame: frame.startswith(b"event: ping"),
}


@pytest.mark.parametrize("profile, path", KEEPALIVES)
async def test_a_long_wait_is_filled_with_keepalives_of_the_profile(profile, path):
    config = config_of(gateway=QUICK)
    async with gateway_scene({"a": [stream(*SAID)]}, config, load_s=0.8) as scene:
        answer = await streamed(scene, path, headers={"x-hotseat-profile": profile} if profile else None)
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/event-stream"
        assert answer.headers["x-hotseat-position"] == "1"
        assert answer.headers["x-hotseat-lease"]
        said = b"".join(SAID)
        assert answer.content.endswith(said)
        frames = events_of(answer.content[: -len(said)])
        assert len(frames) >= 3
        assert all(KEEPALIVES[profile, path](frame) for frame in frames), frames


async def test_a_keys_profile_wins_and_none_is_sent_away_like_a_client_that_does_not_stream():
    config = config_of(keys=(key_entry("k", Scope.LEASE, profile="none"),), gateway=QUICK)
    async with gateway_scene({"a": [stream(*SAID)]}, config, load_s=0.8) as scene:
        answer = await streamed(scene, headers={"x-hotseat-profile": "openai"})
        assert answer.status_code == 429


async def test_a_model_that_works_long_before_its_first_byte_is_covered_with_keepalives_too():
    config = config_of(gateway=QUICK)
    async with gateway_scene({"a": [[0.5, *stream(*SAID)]]}, config) as scene:
        answer = await streamed(scene)
        assert answer.content.endswith(b"".join(SAID))
        assert len(events_of(answer.content)) >= len(SAID) + 3


async def test_who_does_not_stream_is_sent_away_with_its_place_kept_and_comes_back_to_it():
    config = config_of(gateway=QUICK, claim_ttl_s=3.0)
    async with gateway_scene({"a": [whole(b"{}")], "b": [whole(b"{}")]}, config, load_s=2.0) as scene:

        async def rivals() -> list:
            return [asyncio.create_task(streamed(scene, headers={"x-hotseat-session": f"r{n}"})) for n in range(3)]

        places, ids, late = [], set(), []
        while True:
            answer = await scene.client.post(CHAT, json=body_of(user="me"))
            if answer.status_code == 200:
                break
            assert answer.status_code == 429
            error = answer.json()["error"]
            assert (error["code"], error["type"]) == ("queued", "rate_limit_error")
            assert 1 <= int(answer.headers["retry-after"]) <= 2
            places.append(error["position"])
            ids.add(error["lease_id"])
            assert answer.headers["x-hotseat-lease"] == error["lease_id"]
            late += await rivals()
            await asyncio.sleep(0.1)
        assert len(places) >= 3
        assert places == sorted(places, reverse=True)
        assert len(ids) == 1
        await asyncio.gather(*late)
        await scene.all_given_back()


async def test_a_grant_that_came_while_the_client_was_away_is_its_own():
    config = config_of(gateway=QUICK)
    async with gateway_scene({"a": [whole(b"{}")]}, config, load_s=0.6) as scene:
        first = await scene.client.post(CHAT, json=body_of(user="me"))
        assert first.status_code == 429
        await until(lambda: scene.leases("active"))
        again = await scene.client.post(CHAT, json=body_of(user="me"))
        assert again.status_code == 200
        assert again.headers["x-hotseat-lease"] == first.json()["error"]["lease_id"]


async def test_a_retry_that_is_built_anew_finds_the_place_of_its_session():
    config = config_of(gateway=QUICK, claim_ttl_s=3.0)
    async with gateway_scene({"a": [whole(b"{}")]}, config, load_s=2.0) as scene:
        headers = {"x-session-affinity": "s:1"}
        first = await scene.client.post(CHAT, json=body_of(now=1), headers=headers)
        await asyncio.sleep(float(first.headers["retry-after"]))
        again = await scene.client.post(CHAT, json=body_of(now=2), headers=headers)
        ids = [again.headers["x-hotseat-lease"], first.headers["x-hotseat-lease"]]
        assert ids[0] == ids[1]


async def test_a_stream_is_not_begun_while_the_models_last_load_failed():
    config = config_of(gateway=QUICK, load_backoff_s=30.0)
    async with gateway_scene({"a": [stream(*SAID)]}, config, broken=("a",)) as scene:
        answer = await streamed(scene)
        assert (answer.status_code, answer.json()["error"]["code"]) == (429, "queued")


async def test_what_no_worker_serves_is_refused_with_503_and_a_reason():
    config = config_of(gateway=QUICK)
    async with gateway_scene({"a": [whole(b"{}")]}, config) as scene:
        answer = await scene.client.post(CHAT, json=body_of("b"))
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "no_worker")
        assert "no worker serves b" in answer.json()["error"]["message"]
        answer = await scene.client.post(CHAT, json=body_of("huge"))
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "model_too_large")
        await scene.all_given_back()


async def test_a_quarantined_model_is_refused_at_once():
    config = config_of(gateway=QUICK, load_backoff_s=0.05, max_fails=2)
    async with gateway_scene({"a": [stream(*SAID)]}, config, broken=("a",), load_s=0.3) as scene:
        answer = await streamed(scene)
        assert answer.status_code in {200, 429}
        await until(lambda: any(f.quarantined for s in scene.broker.scheduler.last.snapshot.slots for f in s.failures))
        answer = await streamed(scene)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "model_quarantined")


@pytest.mark.parametrize("script", [[None], [b"HTTP/1.1 200 OK\r\nContent-Le", None], [STREAM_HEAD, None]])
async def test_a_server_that_breaks_off_before_its_first_byte_is_asked_once_more(script):
    config = config_of(gateway=QUICK)
    async with gateway_scene({"a": [script, stream(*SAID)]}, config) as scene:
        answer = await streamed(scene)
        assert answer.status_code == 200
        assert answer.content.endswith(b"".join(SAID))
        assert len(scene.models["a"].asked) == 2
        await scene.all_given_back()


async def test_a_server_that_breaks_off_twice_is_a_502():
    async with gateway_scene({"a": [[None]]}, config_of(gateway=QUICK)) as scene:
        answer = await scene.client.post(CHAT, json=body_of())
        assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_broken")
        assert len(scene.models["a"].asked) == 2
        await scene.all_given_back()


async def test_a_server_that_died_is_loaded_again_before_the_request_is_tried_again():
    config = config_of(gateway=QUICK | {"dead_server_s": 5.0}, **FAST_BACKOFF)
    async with gateway_scene({"a": [[None], whole(b"{}")]}, config) as scene:
        scene.models["a"].on_ask = lambda _: scene.worker.dead.add("a") if len(scene.models["a"].asked) == 1 else None
        answer = await scene.client.post(CHAT, json=body_of(), headers={"x-hotseat-session": "s"})
        if answer.status_code == 429:  # the reload took longer than this client's patience
            answer = await scene.client.post(CHAT, json=body_of(), headers={"x-hotseat-session": "s"})
        assert answer.status_code == 200
        first, second = (asked.header("authorization") for asked in scene.models["a"].asked)
        assert first != second, "the second attempt went to the dead load"


async def test_a_key_of_an_old_load_is_our_trouble_and_not_the_clients():
    script = whole(b'{"error": "Invalid API Key"}', status=401)
    async with gateway_scene({"a": [script, whole(b"{}")]}, config_of(gateway=QUICK)) as scene:
        assert (await scene.client.post(CHAT, json=body_of())).status_code == 200
        scene.models["a"].scripts[:] = [script]
        answer = await scene.client.post(CHAT, json=body_of())
        assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_refused")


@pytest.mark.parametrize("path", [CHAT, "/v1/completions", "/v1/responses", "/v1/messages"])
async def test_a_server_that_dies_mid_stream_ends_it_with_one_error_event(path):
    async with gateway_scene({"a": [[STREAM_HEAD, chunk(word("one")), None]]}) as scene:
        answer = await streamed(scene, path)
        frames = events_of(answer.content)
        assert frames[0] + b"\n\n" == word("one")
        assert len(frames) == 2
        assert data_of(frames[1])["error"]
        assert len(scene.models["a"].asked) == 1
        await scene.all_given_back()


async def test_half_an_event_is_closed_before_the_error_follows():
    async with gateway_scene({"a": [[STREAM_HEAD, chunk(word("one") + b'data: {"cho'), None]]}) as scene:
        answer = await streamed(scene)
        assert data_of(events_of(answer.content)[-1])["error"]["code"] == "upstream_broken"


async def test_a_stream_that_said_done_is_whole_though_its_server_died_then():
    async with gateway_scene({"a": [[STREAM_HEAD, chunk(word("one")), chunk(DONE), None]]}) as scene:
        assert (await streamed(scene)).content == word("one") + DONE


async def test_an_error_after_keepalives_is_the_last_event():
    config = config_of(gateway=QUICK)
    async with gateway_scene({"a": [whole(b'{"error": "context too long"}', status=400)]}, config, load_s=0.5) as scene:
        answer = await streamed(scene)
        assert answer.status_code == 200
        error = data_of(events_of(answer.content)[-1])["error"]
        assert (error["code"], "context too long" in error["message"]) == ("upstream_error", True)


async def test_a_revoked_lease_ends_its_stream_with_an_error_event():
    async with gateway_scene({"a": [[STREAM_HEAD, chunk(word("one")), 60.0]]}) as scene:
        client = await RawClient.to(scene.url)
        client.post(CHAT, json.dumps(body_of(stream=True)).encode())
        _, headers = await client.head()
        assert await client.chunk() == word("one")
        await scene.store.end(LeaseId(headers["x-hotseat-lease"]), who="operator:x", why="operator")
        last = (await asyncio.wait_for(client.chunks(), 5))[-1]
        assert data_of(last)["error"]["code"] == "lease_lost"
        await until(lambda: scene.models["a"].cut == 1)
        client.close()


async def test_a_lease_that_ends_before_the_first_byte_is_asked_for_again():
    gate = asyncio.Event()
    async with gateway_scene({"a": [[gate, *whole(b"old")], whole(b"new")]}) as scene:
        request = asyncio.create_task(scene.client.post(CHAT, json=body_of()))
        await until(lambda: scene.models["a"].asked)
        await scene.store.end(scene.leases("active")[0].id, who="operator:x", why="operator")
        assert (await request).content == b"new"
        await scene.all_given_back()


async def test_a_broker_that_stops_sends_waiting_clients_away_and_the_next_one_knows_their_place():
    config = config_of(gateway={"name": "one"})
    async with gateway_scene({"a": [whole(b"{}")]}, config, load_s=30.0) as scene:
        request = asyncio.create_task(scene.client.post(CHAT, json=body_of()))
        await until(lambda: scene.leases("queued"))
        scene.broker.services.waiters.drain()
        answer = await request
        assert (answer.status_code, answer.json()["error"]["code"]) == (429, "queued")
        assert [lease.id for lease in scene.leases("queued")] == [answer.headers["x-hotseat-lease"]]


async def test_a_broker_that_stops_ends_a_stream_in_flight_with_an_error_event_and_gives_its_lease_back():
    async with gateway_scene({"a": [[STREAM_HEAD, chunk(word("one")), 60.0]]}) as scene:
        client = await RawClient.to(scene.url)
        client.post(CHAT, json.dumps(body_of(stream=True)).encode())
        await client.head()
        assert await client.chunk() == word("one")
        scene.server.should_exit = True
        last = (await asyncio.wait_for(client.chunks(), 10))[-1]
        assert data_of(last)["error"]["code"] == "draining"
        await scene.all_given_back()
        client.close()


async def test_the_session_comes_from_a_registered_span_and_the_class_from_header_or_key():
    config = config_of(keys=(key_entry("k", Scope.LEASE, priority="background"),))
    async with gateway_scene({"a": [whole(b"{}")]}, config) as scene:
        seen = []
        scene.models["a"].on_ask = lambda _: seen.extend(scene.leases("active"))
        span = {"spanId": "00f067aa0ba902b7", "sessionKey": "agent:main:x", "model": "hotseat/a"}
        assert (await scene.client.post("/sessions/span", json=span)).status_code == 204
        trace = {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}
        await scene.client.post(CHAT, json=body_of(), headers=trace)
        await scene.client.post(CHAT, json=body_of(), headers=trace | {"x-hotseat-priority": "interactive"})
        await scene.client.post(CHAT, json=body_of(user="u"))
        await scene.client.post(CHAT, json=body_of())
        assert [lease.session for lease in seen] == ["agent:main:x"] * 2 + ["u", "k"]
        assert [lease.priority.value for lease in seen] == ["background", "interactive", "background", "background"]
        for bad in ({}, span | {"spanId": "0"}, span | {"x": 1}, span | {"sessionKey": ""}):
            assert (await scene.client.post("/sessions/span", json=bad)).status_code == 422


async def test_a_thousand_held_requests_do_not_slow_healthz_down():
    config = config_of(gateway={"max_open": 1000}, max_queue_session=2000)
    async with gateway_scene({"a": [whole(b"{}")]}, config, load_s=30.0) as scene:
        clients = [await RawClient.to(scene.url) for _ in range(1000)]
        for number, client in enumerate(clients):
            client.post(CHAT, json.dumps(body_of()).encode(), f"x-hotseat-session: s{number}")
        await until(lambda: len(scene.leases("queued")) == 1000, 20)
        answer = await scene.client.post(CHAT, json=body_of())
        assert (answer.status_code, answer.json()["error"]["code"]) == (429, "busy")
        slowest_s = 0.0
        for _ in range(50):
            started_s = time.perf_counter()
            await scene.client.get("/healthz")
            slowest_s = max(slowest_s, time.perf_counter() - started_s)
            await asyncio.sleep(0.01)
        assert slowest_s < 0.5, "50 ms are measured on an idle machine"
        for client in clients:
            client.close()
        await until(lambda: not scene.leases("queued"), 20)


async def test_every_kind_of_client_waits_through_a_load_and_completes():
    quick = {"commit_after_s": 0.3, "keepalive_s": 0.3, "max_silent_s": 0.5}
    seen = await measure(4.0, 2.0, quick, claim_ttl_s=2.0)
    assert [waited.line() for waited in seen if waited.failure] == []
    assert all(waited.events >= 5 or waited.sent_away for waited in seen), [waited.line() for waited in seen]
    assert [waited.sent_away > 0 for waited in seen[-2:]] == [True, True]
