"""Model servers that break off, leases that end: tried again where nobody can notice, else one error event."""

import asyncio
import json

import pytest

from broker.core.lease import LeaseId
from tests.fakes.broker_scene import config_of, until
from tests.fakes.gateway_scene import CHAT, QUICK, SAID, RawClient, body_of, data_of, events_of, gateway_scene, streamed
from tests.fakes.scripted_server import DONE, GOOD, STREAM_HEAD, chunk, stream, whole, word, word_of

FAST_BACKOFF = {"load_backoff_s": 0.2}


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
    async with gateway_scene({"a": [[None], whole(GOOD)]}, config) as scene:
        scene.models["a"].on_ask = lambda _: scene.worker.dead.add("a") if len(scene.models["a"].asked) == 1 else None
        for _ in range(20):
            answer = await scene.client.post(CHAT, json=body_of(), headers={"x-hotseat-session": "s"})
            if answer.status_code != 429:  # the reload took longer than this client's patience
                break
        assert answer.status_code == 200
        first, second = (asked.header("authorization") for asked in scene.models["a"].asked)
        assert first != second, "the second attempt went to the dead load"


async def test_a_key_of_an_old_load_is_our_trouble_and_not_the_clients():
    script = whole(b'{"error": "Invalid API Key"}', status=401)
    async with gateway_scene({"a": [script, whole(GOOD)]}, config_of(gateway=QUICK)) as scene:
        assert (await scene.client.post(CHAT, json=body_of())).status_code == 200
        scene.models["a"].scripts[:] = [script]
        answer = await scene.client.post(CHAT, json=body_of())
        assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_refused")
        assert answer.json()["error"]["message"].endswith(
            "refuses the load's own key: it answered 401: Invalid API Key"
        )


@pytest.mark.parametrize("path", [CHAT, "/v1/completions", "/v1/responses", "/v1/messages"])
async def test_a_server_that_dies_mid_stream_ends_it_with_one_error_event(path):
    async with gateway_scene({"a": [[STREAM_HEAD, chunk(word_of(path, "one")), None]]}) as scene:
        answer = await streamed(scene, path)
        frames = events_of(answer.content)
        assert frames[0] + b"\n\n" == word_of(path, "one")
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
        last = (await asyncio.wait_for(client.chunks(), 30))[-1]
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


async def test_a_client_that_goes_in_the_turn_in_which_its_lease_ends_is_gone_and_takes_no_other():
    waiting = [STREAM_HEAD, 30.0]
    async with gateway_scene({"a": [waiting]}, config_of(gateway=QUICK)) as scene:
        client = await RawClient.to(scene.url)
        client.post(CHAT, json.dumps(body_of(stream=True)).encode())
        await until(lambda: scene.models["a"].open)
        (hold,) = scene.context.holds._holds.values()
        (connection,) = (one for one in scene.server.server_state.connections if one._when_gone)
        ends = hold.on_end

        def both() -> None:
            ends()
            for tell in connection._when_gone.copy():
                tell()

        hold.on_end = both
        await scene.store.end(hold.record.lease_id, who="operator:x", why="operator")
        await scene.all_given_back()
        await until(lambda: scene.context.room.open == 0)
        assert len(scene.models["a"].asked) == 1
        client.close()
