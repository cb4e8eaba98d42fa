"""Brokers killed, paused and restarted with requests of ``/v1`` in their hands: real processes, a real store."""

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator

import httpx
import pytest
import redis.asyncio

from harness.broker_process import BrokerProcess
from harness.redis_servers import VALKEY, RedisServer
from harness.worker import FakeWorker
from schemas.messages import base_key
from tests.fakes.broker_scene import until
from tests.fakes.gateway_scene import CHAT, body_of, data_of
from tests.fakes.scripted_server import DONE, STREAM_HEAD, ScriptedServer, chunk, scripted_server, stream, word

pytestmark = [pytest.mark.redis, pytest.mark.slow]
P = base_key("default")
SOON_S = 10.0
"""A life whose beats are missed ends after 3 s; a lease left alone would live for another 40 to 60 s."""
ENDLESS = [STREAM_HEAD, chunk(word("one")), 600.0]
SAID = [word("done"), DONE]


class Stage:
    """Two brokers on one store; a slot that holds one of the models at a time: ``a`` for two, ``b`` for one lease."""

    def __init__(self, server: RedisServer, models: dict[str, ScriptedServer]) -> None:
        self.server, self.models = server, models
        self.redis = redis.asyncio.from_url(server.url, decode_responses=True)
        self.brokers: dict[str, BrokerProcess] = {}
        self.client = httpx.AsyncClient(timeout=60)

    async def start(self, name: str) -> BrokerProcess:
        extra = f'[gateway]\nname = "{name}"\nmax_silent_s = 20\n[limits]\nrepoll_s = 1\n'
        broker = await asyncio.to_thread(BrokerProcess, self.server.url, extra=extra)
        self.brokers[name] = broker
        await asyncio.to_thread(broker.until_ready)
        return broker

    @contextlib.asynccontextmanager
    async def streaming(self, name: str, session: str, model: str) -> AsyncIterator[httpx.Response]:
        """A stream in flight: its first word has arrived."""
        async with self._stream(name, session, model) as answer:
            lines = answer.aiter_lines()
            assert "one" in await anext(lines)
            answer.extensions["lines"] = lines
            yield answer

    def _stream(self, name: str, session: str, model: str) -> contextlib.AbstractAsyncContextManager[httpx.Response]:
        headers = {"x-hotseat-session": session}
        url = self.brokers[name].url + CHAT
        return self.client.stream("POST", url, json=body_of(model, stream=True), headers=headers)

    def ask(self, name: str, session: str, model: str, **more: object) -> "asyncio.Task[httpx.Response]":
        headers = {"x-hotseat-session": session}
        url = self.brokers[name].url + CHAT
        return asyncio.create_task(self.client.post(url, json=body_of(model, **more), headers=headers))

    async def queued(self, model: str, count: int) -> None:
        await until(lambda: self._counts(f"{P}:queue:{model}", count))

    async def _counts(self, key: str, count: int) -> bool:
        return await self.redis.zcard(key) == count

    async def ended(self) -> list[str]:
        entries = await self.redis.xrange(f"{P}:events")
        return [fields["why"] for _, fields in entries if fields["type"] == "ended"]

    async def was_lost(self) -> bool:
        return "lost: broker_gone" in await self.ended()

    def pause(self, name: str) -> None:
        os.kill(self.brokers[name].pid, signal.SIGSTOP)

    def resume(self, name: str) -> None:
        os.kill(self.brokers[name].pid, signal.SIGCONT)

    async def is_sound(self) -> None:
        assert json.loads(await self.redis.fcall_ro("hotseat1_check", 1, P)) == []
        for broker in self.brokers.values():
            assert "Traceback" not in broker.log.read_text()


@contextlib.asynccontextmanager
async def stage(*names: str, load_s: float = 0.0, **scripts: list) -> AsyncIterator[Stage]:
    async with contextlib.AsyncExitStack() as stack:
        server = stack.enter_context(contextlib.closing(RedisServer(VALKEY, aof=True).start()))
        models = {
            name: await stack.enter_async_context(scripted_server(*scripts.get(name, [stream(*SAID)]))) for name in "ab"
        }
        scene = Stage(server, models)
        stack.push_async_callback(scene.redis.aclose)
        stack.push_async_callback(scene.client.aclose)
        stack.callback(lambda: [broker.kill() for broker in scene.brokers.values()])
        for name in names:
            await scene.start(name)
        urls = {name: model.url for name, model in models.items()}
        worker = FakeWorker.on_redis(server.url, serves=("a", "b"), urls=urls, load_s=load_s)
        await stack.enter_async_context(worker.running())
        yield scene


async def test_a_broker_killed_in_mid_stream_gives_its_place_back_and_another_model_may_load():
    async with stage("one", "two", a=[ENDLESS]) as scene:
        with contextlib.suppress(httpx.HTTPError):
            async with scene.streaming("one", "s1", "a"):
                other = scene.ask("two", "s2", "b")
                await scene.queued("b", 1)
                scene.brokers["one"].kill()
                answer = await asyncio.wait_for(other, SOON_S)
        assert answer.status_code == 200
        assert (await scene.ended()).count("lost: broker_gone") == 1
        await scene.is_sound()


async def test_a_broker_killed_in_mid_load_leaves_no_ghost_that_the_loaded_model_is_given_to():
    async with stage("one", "two", load_s=2.0) as scene:
        gone = scene.ask("one", "s1", "b")
        await scene.queued("b", 1)
        other = scene.ask("two", "s2", "b")
        await scene.queued("b", 2)
        scene.brokers["one"].kill()
        assert (await asyncio.wait_for(other, SOON_S)).status_code == 200
        with pytest.raises(httpx.HTTPError):
            await gone
        await scene.is_sound()


async def test_the_next_start_of_a_killed_broker_frees_its_places_at_once_though_nobody_missed_it():
    async with stage("one", a=[ENDLESS, stream(*SAID)]) as scene:
        with contextlib.suppress(httpx.HTTPError):
            async with scene.streaming("one", "s1", "a"):
                scene.brokers["one"].kill()
        assert await scene.ended() == []
        await scene.start("one")
        assert await scene.ended() == ["lost: broker_gone"]
        assert (await scene.ask("one", "s1", "b")).status_code == 200


async def test_a_lease_of_a_holder_outlives_the_broker_it_was_asked_from():
    async with stage("one", "two", b=[ENDLESS]) as scene:
        asked = {"sessionKey": "s", "model": "a", "wait": 10}
        held = (await scene.client.post(f"{scene.brokers['one'].url}/lease", json=asked)).json()
        waiting = asyncio.create_task(
            scene.client.post(f"{scene.brokers['two'].url}/lease", json=asked | {"model": "b"})
        )
        await scene.queued("b", 1)
        scene.brokers["one"].kill()
        await until(lambda: _says(scene.brokers["two"].url, scene, "BROKER one/", absent=True), SOON_S)
        kept = {"leaseId": held["leaseId"], "nonce": held["nonce"]}
        assert (await scene.client.post(f"{scene.brokers['two'].url}/renew", json=kept)).json()["state"] == "active"
        assert (await scene.client.post(f"{scene.brokers['two'].url}/release", json=kept)).json()["state"] == "ended"
        assert (await waiting).json()["state"] == "active"


async def _says(_url: str, scene: Stage, word: str, *, absent: bool) -> bool:
    lines = await scene.redis.fcall_ro("hotseat1_ps", 1, P)
    return any(line.startswith(word) for line in lines) is not absent


async def test_a_paused_brokers_streams_end_with_an_error_and_it_serves_again_afterwards():
    async with stage("one", "two", a=[ENDLESS, stream(*SAID)]) as scene:
        async with scene.streaming("one", "s1", "a") as answer:
            scene.pause("one")
            try:
                await until(scene.was_lost, SOON_S)
                assert (await asyncio.wait_for(scene.ask("two", "s2", "b"), SOON_S)).status_code == 200
            finally:
                scene.resume("one")
            last = [line async for line in answer.extensions["lines"] if line]
            assert data_of(last[-1].encode() + b"\n\n")["error"]["code"] == "lease_lost"
        assert (await scene.ask("one", "s1", "a")).status_code == 200
        assert "life_lost" in scene.brokers["one"].log.read_text()
        await scene.is_sound()


async def test_a_client_that_waits_at_a_broker_that_was_paused_waits_on_in_its_place():
    async with stage("one", "two", load_s=8.0) as scene:
        mine = scene.ask("one", "mine", "b")
        await scene.queued("b", 1)
        behind = scene.ask("two", "behind", "b")
        await scene.queued("b", 2)
        scene.pause("one")
        try:
            await until(scene.was_lost, SOON_S)
        finally:
            scene.resume("one")
        answers = await asyncio.gather(mine, behind)
        assert [answer.status_code for answer in answers] == [200, 200]
        granted = [f["sh"] for _, f in await scene.redis.xrange(f"{P}:events") if f["type"] == "granted"]
        queued = [f["sh"] for _, f in await scene.redis.xrange(f"{P}:events") if f["type"] == "queued"]
        assert granted == queued[:2], "first come, first served"
        await scene.is_sound()


@pytest.mark.parametrize("how", ["paused", "killed"])
async def test_a_store_that_was_away_is_nobodys_death(how: str):
    words = [STREAM_HEAD, chunk(word("one")), 12.0, *stream(*SAID)[1:]]
    async with stage("one", "two", a=[words, words]) as scene:
        async with scene.streaming("one", "s1", "a") as first, scene.streaming("two", "s2", "a") as second:
            if how == "paused":
                scene.server.signal(signal.SIGSTOP)
                await asyncio.sleep(6.0)
                scene.server.signal(signal.SIGCONT)
            else:
                scene.server.kill()
                await asyncio.sleep(4.0)
                await asyncio.to_thread(scene.server.start)
            for answer in (first, second):
                assert "".join([line async for line in answer.extensions["lines"]]).endswith("[DONE]")
        assert not await scene.was_lost()
        assert not any("life_lost" in broker.log.read_text() for broker in scene.brokers.values())


async def test_a_lone_broker_that_is_paused_keeps_its_streams():
    words = [STREAM_HEAD, chunk(word("one")), 6.0, *stream(*SAID)[1:]]
    async with stage("one", a=[words]) as scene, scene.streaming("one", "s1", "a") as answer:
        scene.pause("one")
        await asyncio.sleep(5.0)
        scene.resume("one")
        rest = "".join([line async for line in answer.extensions["lines"]])
        assert rest.endswith("[DONE]")
        assert await scene.ended() in (["released"], [])


async def test_a_client_of_a_killed_broker_that_comes_to_another_one_is_ahead_of_who_came_later():
    async with stage("one", "two", load_s=12.0) as scene:
        first = scene.ask("one", "mine", "b")
        await scene.queued("b", 1)
        later = scene.ask("two", "later", "b")
        await scene.queued("b", 2)
        scene.brokers["one"].kill()
        with pytest.raises(httpx.HTTPError):
            await first
        again = scene.ask("two", "mine", "b")
        answers = await asyncio.gather(again, later)
        assert [answer.status_code for answer in answers] == [200, 200]
        events = [f for _, f in await scene.redis.xrange(f"{P}:events")]
        queued = [f["sh"] for f in events if f["type"] == "queued"]
        assert [f["sh"] for f in events if f["type"] == "granted"] == queued[:2]
        await scene.is_sound()


async def test_two_brokers_of_one_name_hear_of_it_and_both_serve():
    async with stage("one", a=[stream(*SAID)]) as scene:
        first = scene.brokers["one"]
        await scene.start("one")
        await until(lambda: "broker_name_taken" in first.log.read_text())
        for _ in range(3):
            for url in (first.url, scene.brokers["one"].url):
                answer = await scene.client.post(url + CHAT, json=body_of("a"))
                assert answer.status_code == 200, answer.text
        assert set(await scene.ended()) == {"released"}
        first.kill()
