"""The waiting contract: silence, keepalives that parsers count, 429 with the place kept, errors as the last event."""

import asyncio
import json
import re

import pytest

from broker.access.principals import Scope
from broker.core.errors import StoreUnavailableError
from schemas.config.file import ModelEntry
from tests.data_path.waits import measure
from tests.fakes.broker_scene import broker_on, config_of, key_entry, until
from tests.fakes.gateway_scene import CHAT, QUICK, SAID, RawClient, body_of, data_of, events_of, gateway_scene, streamed
from tests.fakes.scripted_server import GOOD, STREAM_HEAD, chunk, stream, whole, word
from tests.fakes.sdks import openai


async def test_a_short_wait_is_silent_and_leaves_no_trace_in_the_stream():
    async with gateway_scene({"a": [stream(*SAID)]}, load_s=0.3) as scene:
        answer = await streamed(scene)
        assert answer.content == b"".join(SAID)
        assert int(answer.headers["x-hotseat-waited-ms"]) >= 250


SAYS = ("waiting for a: position 1", "a is working")
KEEPALIVES = {
    ("openai", CHAT): lambda frame: data_of(frame)["choices"][0]["delta"] == {},
    ("no_choices", CHAT): lambda frame: data_of(frame)["choices"] == [],
    ("reasoning", CHAT): lambda frame: data_of(frame)["choices"][0]["delta"]["reasoning_content"].startswith(SAYS),
    ("comment", CHAT): lambda frame: frame[2:].decode().startswith(SAYS),
    (None, CHAT): lambda frame: data_of(frame)["object"] == "chat.completion.chunk",
    ("openai", "/v1/completions"): lambda frame: data_of(frame)["object"] == "text_completion",
    (None, "/v1/responses"): lambda frame: frame[2:].decode().startswith(SAYS),
    (None, "/v1/messages"): lambda frame: frame == b'event: ping\ndata: {"type": "ping"}',
    ("anthropic", "/v1/messages"): lambda frame: frame.startswith(b"event: ping"),
}


@pytest.mark.parametrize("profile, path", KEEPALIVES)
async def test_a_long_wait_is_filled_with_keepalives_of_the_profile(profile, path):
    config = config_of(gateway=QUICK)
    async with gateway_scene({"a": [stream(*SAID)]}, config, load_s=2.0) as scene:
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
    async with gateway_scene({"a": [whole(GOOD)], "b": [whole(GOOD)]}, config, load_s=2.0) as scene:

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


WORDS = re.compile(
    r"a is not free yet: position (?P<position>\d+), (about (?P<eta>\d+) s|nobody knows yet how long); "
    r"your place is kept; ask again in (?P<after>\d+) s"
)


@pytest.mark.parametrize("path", [CHAT, "/v1/messages", "/v1/responses", "/v1/embeddings"])
async def test_who_is_sent_away_is_told_position_eta_and_when_to_ask_again(path):
    kind = "embedding" if path == "/v1/embeddings" else "chat"
    config = config_of(gateway=QUICK, models=(ModelEntry(name="a", memory_mib=900, kind=kind),))
    async with gateway_scene({"a": [whole(GOOD)]}, config, load_s=30.0) as scene:
        for user in ("first", "me"):
            answer = await scene.client.post(path, json=body_of(user=user, input="hi", max_tokens=5))
        assert answer.status_code == 429
        document, headers = answer.json(), answer.headers
        assert document.get("type") == ("error" if path == "/v1/messages" else None)
        error = document["error"]
        said = WORDS.fullmatch(error["message"])
        assert said is not None, error["message"]
        assert said["position"] == str(error["position"]) == headers["x-hotseat-position"] == "2"
        assert said["after"] == str(error["retry_after_s"]) == headers["retry-after"]
        assert (said["eta"] is None) == (error["eta_s"] is None) == ("x-hotseat-eta-s" not in headers)
        if error["eta_s"] is not None:
            assert said["eta"] == headers["x-hotseat-eta-s"] == f"{error['eta_s']:.0f}"


async def test_every_refusal_that_passes_says_in_words_when_to_ask_again():
    keys = (key_entry("k", Scope.LEASE, rate_per_s=0.1),)
    async with gateway_scene({"a": [whole(GOOD)]}, config_of(keys=keys)) as scene:
        for path, body in ((CHAT, body_of()), ("/lease", {"sessionKey": "s", "model": "a"})):
            await scene.client.post(path, json=body)
            answer = await scene.client.post(path, json=body)
            assert answer.status_code == 429
            after = answer.headers["retry-after"]
            document = answer.json()
            message = document["error"]["message"] if path == CHAT else document["detail"]
            assert message == f"key 'k' sends too many requests; ask again in {after} s"


async def test_a_grant_that_came_while_the_client_was_away_is_its_own():
    config = config_of(gateway=QUICK)
    async with gateway_scene({"a": [whole(GOOD)]}, config, load_s=0.6) as scene:
        first = await scene.client.post(CHAT, json=body_of(user="me"))
        assert first.status_code == 429
        await until(lambda: scene.leases("active"))
        again = await scene.client.post(CHAT, json=body_of(user="me"))
        assert again.status_code == 200
        assert again.headers["x-hotseat-lease"] == first.json()["error"]["lease_id"]


async def test_a_retry_that_is_built_anew_finds_the_place_of_its_session():
    config = config_of(gateway=QUICK, claim_ttl_s=3.0)
    async with gateway_scene({"a": [whole(GOOD)]}, config, load_s=2.0) as scene:
        headers = {"x-session-affinity": "s:1"}
        first = await scene.client.post(CHAT, json=body_of(now=1), headers=headers)
        await asyncio.sleep(float(first.headers["retry-after"]))
        again = await scene.client.post(CHAT, json=body_of(now=2), headers=headers)
        ids = [again.headers["x-hotseat-lease"], first.headers["x-hotseat-lease"]]
        assert ids[0] == ids[1]


async def test_an_sdk_with_a_short_time_out_of_its_own_waits_all_the_same():
    async with gateway_scene({"a": [whole(GOOD)]}, config_of(claim_ttl_s=2.0), load_s=2.5) as scene:
        async with openai.AsyncOpenAI(base_url=f"{scene.url}/v1", api_key="any", timeout=1.0, max_retries=10) as client:
            await client.chat.completions.create(model="a", messages=[{"role": "user", "content": "hi"}])
        assert len(scene.models["a"].asked) == 1
        await scene.all_given_back()


async def test_a_stream_is_not_begun_while_its_model_fails_to_load_again_and_again():
    config = config_of(gateway=QUICK | {"commit_after_s": 1.0}, load_retry_s=0.2, load_backoff_s=30.0)
    async with gateway_scene({"a": [stream(*SAID)]}, config, broken=("a",)) as scene:
        answer = await streamed(scene)
        assert (answer.status_code, answer.json()["error"]["code"]) == (429, "queued")


async def test_what_no_worker_serves_is_refused_with_503_and_a_reason():
    config = config_of(gateway=QUICK)
    async with gateway_scene({"a": [whole(GOOD)]}, config) as scene:
        answer = await scene.client.post(CHAT, json=body_of("b"))
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "no_worker")
        assert "no worker serves b" in answer.json()["error"]["message"]
        answer = await scene.client.post(CHAT, json=body_of("huge"))
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "model_too_large")
        await scene.all_given_back()


async def test_a_model_of_no_workers_catalogue_is_refused_soon_with_what_it_lacks():
    async with gateway_scene({"a": [whole(GOOD)]}, config_of()) as scene:
        answer = await asyncio.wait_for(scene.client.post(CHAT, json=body_of("b")), 10)
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (503, "no_worker")
        assert "no worker's catalogue has b; its [[model]] needs a command" in error["message"]
        models = (await scene.client.get("/models")).json()["models"]
        assert {model["name"]: model["loadError"] for model in models}["b"] == "no worker's catalogue has it"
        await scene.all_given_back()


async def test_a_quarantined_model_is_refused_at_once():
    config = config_of(gateway=QUICK, load_backoff_s=0.05, max_fails=2)
    async with gateway_scene({"a": [stream(*SAID)]}, config, broken=("a",), load_s=0.3) as scene:
        answer = await streamed(scene)
        assert answer.status_code in {200, 429}
        await until(lambda: any(f.quarantined for s in scene.broker.scheduler.last.snapshot.slots for f in s.failures))
        answer = await streamed(scene)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "model_quarantined")


async def test_a_ticket_that_an_operator_cancels_is_told_and_a_new_one_may_be_had():
    async with gateway_scene({"a": [whole(GOOD)]}, load_s=1.0) as scene:
        request = asyncio.create_task(scene.client.post(CHAT, json=body_of()))
        await until(lambda: scene.leases("queued"))
        await scene.store.end(scene.leases("queued")[0].id, who="operator:x", why="operator")
        answer = await request
        assert (answer.status_code, answer.json()["error"]["code"]) == (429, "place_lost")
        assert (await scene.client.post(CHAT, json=body_of())).status_code == 200


async def test_a_store_that_is_away_for_a_moment_costs_nobody_its_place():
    async with gateway_scene({"a": [whole(GOOD)]}, config_of(repoll_s=1.0), load_s=2.5) as scene:
        request = asyncio.create_task(scene.client.post(CHAT, json=body_of()))
        await until(lambda: scene.leases("queued"))
        real, failed = scene.store.poll, []

        async def away(lease_id, *, waiter_ttl_s):
            failed.append(lease_id)
            raise StoreUnavailableError("it is away")

        scene.store.poll = away
        await until(lambda: len(failed) >= 2)
        scene.store.poll = real
        answer = await request
        assert answer.status_code == 200
        assert answer.headers["x-hotseat-lease"] == failed[0]


async def test_a_broker_that_stops_sends_waiting_clients_away_and_its_successor_knows_their_place():
    config = config_of(gateway=QUICK | {"name": "one", "max_silent_s": 20.0})
    async with gateway_scene({"a": [whole(GOOD)]}, config, load_s=30.0) as scene:
        request = asyncio.create_task(scene.client.post(CHAT, json=body_of()))
        await until(lambda: scene.leases("queued"))
        scene.broker.services.waiters.drain()
        answer = await request
        assert (answer.status_code, answer.json()["error"]["code"]) == (429, "queued")
        async with broker_on(scene.store, config_of(gateway=QUICK | {"name": "one"})) as successor:
            again = await successor.client.post(CHAT, json=body_of())
        assert again.status_code == 429
        assert again.headers["x-hotseat-lease"] == answer.headers["x-hotseat-lease"]
        assert len(scene.leases("queued")) == 1


async def test_a_client_that_was_sent_away_finds_its_place_at_another_broker():
    config = config_of(gateway=QUICK | {"name": "one"})
    async with gateway_scene({"a": [whole(GOOD)]}, config, load_s=30.0) as scene:
        first = await scene.client.post(CHAT, json=body_of(user="me"))
        later = await scene.client.post(CHAT, json=body_of(user="later"))
        assert [answer.status_code for answer in (first, later)] == [429, 429]
        async with broker_on(scene.store, config_of(gateway=QUICK | {"name": "two"})) as other:
            again = await other.client.post(CHAT, json=body_of(user="me"))
        assert again.headers["x-hotseat-lease"] == first.headers["x-hotseat-lease"]
        assert again.json()["error"]["position"] == 1
        back = await scene.client.post(CHAT, json=body_of(user="me"))
        assert back.headers["x-hotseat-lease"] == first.headers["x-hotseat-lease"], "and at the first one again"
        assert len(scene.leases("queued")) == 2


async def test_a_client_that_goes_away_while_its_acquire_is_under_way_leaves_nothing_of_what_it_had_left_behind():
    config = config_of(gateway=QUICK | {"max_silent_s": 0.3})
    async with gateway_scene({"a": [whole(GOOD)]}, config, load_s=30.0) as scene:
        body = json.dumps(body_of(user="me")).encode()
        assert (await scene.client.post(CHAT, content=body)).status_code == 429
        real, asked, answered = scene.store.acquire, asyncio.Event(), asyncio.Event()

        async def slow(request):
            record = await real(request)
            asked.set()
            await answered.wait()
            return record

        scene.store.acquire = slow
        client = await RawClient.to(scene.url)
        client.post(CHAT, body)
        await asked.wait()
        client.close()
        await until(lambda: not scene.leases("queued"))


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
    async with gateway_scene({"a": [whole(GOOD)]}, config) as scene:
        seen = []
        scene.models["a"].on_ask = lambda _: seen.extend(scene.leases("active"))
        span = {"spanId": "00f067aa0ba902b7", "sessionKey": "agent:main:x", "model": "hotseat/a"}
        assert (await scene.client.post("/sessions/span", json=span)).status_code == 204
        trace = {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}
        await scene.client.post(CHAT, json=body_of(), headers=trace)
        await scene.client.post(CHAT, json=body_of(), headers=trace | {"x-hotseat-priority": "interactive"})
        await scene.client.post(CHAT, json=body_of(user="u"))
        await scene.client.post(CHAT, json=body_of())
        assert [lease.session for lease in seen] == ["agent:main:x"] * 2 + ["u", "k@127.0.0.1"]
        assert [lease.priority.value for lease in seen] == ["background", "interactive", "background", "background"]
        for bad in ({}, span | {"spanId": "0"}, span | {"x": 1}, span | {"sessionKey": ""}):
            assert (await scene.client.post("/sessions/span", json=bad)).status_code == 422


async def test_a_thousand_held_requests_leave_the_broker_answering():
    """How fast is for ``bench.gateway`` to say, which measures ``/healthz`` beside a thousand of them."""
    config = config_of(gateway={"max_open": 1000}, max_queue_session=2000)
    async with gateway_scene({"a": [whole(GOOD)]}, config, load_s=30.0) as scene:
        clients = [await RawClient.to(scene.url) for _ in range(1000)]
        for number, client in enumerate(clients):
            client.post(CHAT, json.dumps(body_of()).encode(), f"x-hotseat-session: s{number}")
        await until(lambda: len(scene.leases("queued")) == 1000, 60)
        answer = await scene.client.post(CHAT, json=body_of())
        assert (answer.status_code, answer.json()["error"]["code"]) == (429, "busy")
        assert [(await scene.client.get("/healthz")).status_code for _ in range(50)] == [200] * 50
        assert len(scene.leases("queued")) == 1000
        for client in clients:
            client.close()
        await until(lambda: not scene.leases("queued"), 60)


async def test_every_kind_of_client_waits_through_a_load_and_completes():
    quick = {"commit_after_s": 0.3, "keepalive_s": 0.3, "max_silent_s": 0.5}
    seen = await measure(4.0, 2.0, quick, bears_s=1.5, claim_ttl_s=2.0)
    assert [waited.line() for waited in seen if waited.failure] == []
    assert all(waited.events >= 5 or waited.sent_away for waited in seen), [waited.line() for waited in seen]
    assert [waited.sent_away > 0 for waited in seen[-2:]] == [True, True]
