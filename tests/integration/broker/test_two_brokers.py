"""Two broker processes on one real Valkey behave as one; either may die, and the store may go away and come back."""

import asyncio
import contextlib
import json
import time

import httpx
import pytest
import redis.asyncio

from harness.broker_process import BrokerProcess
from harness.redis_servers import VALKEY, RedisServer
from harness.worker import FakeWorker
from schemas.messages import base_key
from tests.fakes.broker_scene import until

pytestmark = [pytest.mark.redis, pytest.mark.slow]
P = base_key("default")


class Two:
    def __init__(self, server: RedisServer, brokers: list[BrokerProcess]) -> None:
        self.server, self.brokers = server, brokers
        self.redis = redis.asyncio.from_url(server.url, decode_responses=True)
        self.one = httpx.AsyncClient(base_url=brokers[0].url, timeout=30)
        self.two = httpx.AsyncClient(base_url=brokers[1].url, timeout=30)

    async def publish(self, **fields: object) -> None:
        await self.redis.xadd(f"{P}:ingress", {name: str(value) for name, value in fields.items()})

    async def live(self) -> list[dict]:
        return (await self.two.get("/queue")).json()["leases"]

    async def events(self, kind: str) -> list[dict]:
        return [fields for _, fields in await self.redis.xrange(f"{P}:events") if fields["type"] == kind]


@contextlib.asynccontextmanager
async def two_brokers(**worker: object):
    server = RedisServer(VALKEY, aof=True).start()
    brokers = [BrokerProcess(server.url, extra="[limits]\nrepoll_s = 1\n") for _ in range(2)]
    try:
        for broker in brokers:
            await asyncio.to_thread(broker.until_ready)
        two = Two(server, brokers)
        async with FakeWorker.on_redis(server.url, **{"serves": ("a", "b"), **worker}).running():
            try:
                yield two
            finally:
                await two.one.aclose()
                await two.two.aclose()
                await two.redis.aclose()
    finally:
        for broker in brokers:
            broker.stop()
        server.close()


async def ask(client: httpx.AsyncClient, session: str, model: str = "b", **more: object) -> httpx.Response:
    return await client.post("/lease", json={"sessionKey": session, "model": model, **more})


async def test_a_release_at_one_broker_answers_a_waiter_at_the_other():
    async with two_brokers() as two:
        held = (await ask(two.one, "first", wait=10)).json()
        assert held["state"] == "active"
        waiting = asyncio.create_task(ask(two.two, "second", wait=20))
        await until(lambda: two.redis.zcard(f"{P}:queue:b"))
        started_s = time.monotonic()
        await two.two.post("/release", json={"leaseId": held["leaseId"], "nonce": held["nonce"]})
        answer = await waiting
        assert answer.json()["state"] == "active"
        assert time.monotonic() - started_s < 10, "nobody woke it: its wait of 20 s ended"
        same = await ask(two.one, "second")
        assert same.json()["leaseId"] == answer.json()["leaseId"]


async def test_ingress_is_carried_out_once_and_in_order():
    async with two_brokers() as two:
        await two.publish(type="lease", sessionKey="agent:1", model="a", ttlSeconds=60, seq=1, publisher="hook")
        await until(lambda: two.events("granted"))
        [lease] = await two.live()
        assert (lease["sessionKey"], lease["who"], lease["state"]) == ("agent:1", "ingress:hook", "active")
        await two.publish(type="renew", sessionKey="agent:1", model="a", ttlSeconds=600, seq=3)
        await two.publish(type="release", sessionKey="agent:1", model="a", seq=2)  # late: ignored
        await two.publish(json=json.dumps({"type": "activity", "sessionKey": "agent:2", "model": "b", "seq": 1}))
        bad = [{"type": "lease"}, {"type": "grab", "sessionKey": "x", "model": "a"}, {"json": "["}]
        bad += [{"type": "lease", "sessionKey": "x", "model": "none"}]
        for fields in bad:
            await two.publish(**fields)
        await until(lambda: _rejected(two, len(bad)))
        leases = {lease["sessionKey"]: lease for lease in await two.live()}
        assert leases["agent:1"]["expiresInSeconds"] > 500
        assert leases["agent:2"]["intent"] == "warm"
        assert await two.redis.xlen(f"{P}:ingress") == 0
        rejected = [fields for _, fields in await two.redis.xrange(f"{P}:ingress:rejected")]
        assert all(fields["why"] for fields in rejected)
        for number in range(20):
            await two.publish(type="lease", sessionKey=f"many:{number}", model="a", seq=1)
        await until(lambda: _has(two, 22))
        assert len(await two.events("queued")) == 1 + 19
        await two.publish(type="release", sessionKey="agent:1", model="a", seq=4)
        await until(lambda: two.events("ended"))


async def test_activity_prolongs_a_warm_lease_and_never_shortens_it():
    async with two_brokers() as two:
        long = (await ask(two.one, "s", "a", intent="warm", ttlSeconds=1200)).json()
        await two.publish(type="activity", sessionKey="s", model="a", ttlSeconds=60, seq=1)
        await until(lambda: _drained(two))
        [lease] = await two.live()
        assert (lease["leaseId"], lease["expiresInSeconds"] > 1000) == (long["leaseId"], True)
        await two.publish(type="activity", sessionKey="s", model="a", ttlSeconds=2400, seq=2)
        await until(lambda: _drained(two))
        [lease] = await two.live()
        assert (lease["leaseId"], lease["expiresInSeconds"] > 2000) == (long["leaseId"], True)
        session_hash = await two.redis.hget(f"{P}:lease:{long['leaseId']}", "sh")
        assert await two.redis.hget(f"{P}:session:{session_hash}", "seq") == "2"


async def _drained(two: Two) -> bool:
    return await two.redis.xlen(f"{P}:ingress") == 0


async def _rejected(two: Two, count: int) -> bool:
    return await two.redis.xlen(f"{P}:ingress:rejected") == count


async def _has(two: Two, count: int) -> bool:
    return len(await two.live()) == count


async def test_a_killed_broker_loses_nothing():
    async with two_brokers(load_s=1.0) as two:
        waiting = [
            asyncio.create_task(ask(client, f"s{i}", "a", wait=30)) for i, client in enumerate((two.one, two.two))
        ]
        await until(lambda: two.redis.zcard(f"{P}:queue:a"))
        two.brokers[0].kill()
        with pytest.raises(httpx.HTTPError):
            await waiting[0]
        assert (await waiting[1]).json()["state"] == "active"
        again = await ask(two.two, "s0", "a", wait=10)
        assert again.json()["state"] == "active"
        assert len(await two.events("granted")) == 2


async def test_a_store_that_goes_away_is_503_and_comes_back():
    async with two_brokers() as two:
        held = (await ask(two.one, "s", wait=10)).json()
        two.server.kill()
        answer = await ask(two.one, "t")
        assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable")
        assert int(answer.headers["retry-after"]) > 0
        assert (await two.one.get("/readyz")).status_code == 503
        assert (await two.one.get("/healthz")).status_code == 200
        assert (await two.one.get("/status")).json()["store"] == "unavailable"
        two.server.start()
        await until(lambda: _ready(two.one), 20)
        kept = await two.one.post("/renew", json={"leaseId": held["leaseId"], "nonce": held["nonce"]})
        assert kept.json()["state"] == "active"
        assert (await ask(two.two, "t", "a", wait=20)).status_code in {201, 202}


async def _ready(client: httpx.AsyncClient) -> bool:
    return (await client.get("/readyz")).status_code == 200


async def test_an_emptied_store_is_never_made_again_by_a_request():
    async with two_brokers() as two:
        await ask(two.one, "s", wait=10)
        await two.redis.flushall()
        await until(lambda: _works_again(two), 20)
        assert "store_found_empty" in two.brokers[0].log.read_text() + two.brokers[1].log.read_text()


async def _works_again(two: Two) -> bool:
    answer = await ask(two.two, "fresh", wait=1)
    assert answer.status_code in {201, 202, 503}
    return answer.status_code == 201


async def test_sigterm_sends_waiters_away_and_exits_cleanly():
    async with two_brokers(load_s=60) as two:
        waiting = asyncio.create_task(ask(two.one, "s", wait=30))
        await until(lambda: two.redis.zcard(f"{P}:queue:b"))
        await asyncio.sleep(0.1)
        code = await asyncio.to_thread(two.brokers[0].stop)
        answer = await waiting
        assert (answer.status_code, answer.json()["code"]) == (503, "draining")
        assert code == 0
        assert "Traceback" not in two.brokers[0].log.read_text()
