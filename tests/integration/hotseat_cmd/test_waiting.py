"""`hotseat lease` and `hotseat run` while a broker restarts: who waits goes on waiting, and a job keeps its lease."""

import asyncio
import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
import redis

from harness.broker_process import BrokerProcess
from harness.redis_servers import VALKEY, RedisServer
from harness.worker import FakeWorker
from tests.fakes.broker_scene import until
from tests.integration.hotseat_cmd.test_run import Job

pytestmark = [pytest.mark.redis, pytest.mark.slow]
HOTSEAT = Path(sys.executable).with_name("hotseat")
IMPATIENT = "[limits]\nwaiter_ttl_s = 5\nrepoll_s = 2\n"


class House:
    """A store, a worker, and brokers one after the other at one address."""

    def __init__(self, store: RedisServer, folder: Path) -> None:
        self.store, self.folder, self.extra = store, folder, ""
        self.broker: BrokerProcess | None = None
        self.worker = FakeWorker.on_redis(store.url, serves=("a", "b"), load_s=600.0)
        self.jobs: list[Job] = []

    def open(self) -> None:
        port = 0 if self.broker is None else int(self.broker.url.rsplit(":", 1)[1])
        self.broker = BrokerProcess(self.store.url, port=port, extra=self.extra).until_ready()

    @property
    def url(self) -> str:
        assert self.broker is not None
        return self.broker.url

    def queue(self) -> list[dict]:
        return httpx.get(f"{self.url}/queue").json()["leases"]

    async def start(self, *words: str) -> Job:
        process = await asyncio.create_subprocess_exec(
            "env", "--default-signal", HOTSEAT, words[0], "--url", self.url, *words[1:],
            env={**os.environ, "DIR": str(self.folder)},
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        self.jobs.append(Job(process, self.folder))
        return self.jobs[-1]


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    with contextlib.closing(RedisServer(VALKEY, aof=True).start()) as store:
        made = House(store, tmp_path)
        async with made.worker.running():
            yield made
            for job in made.jobs:
                if job.process.returncode is None:
                    job.process.kill()
                    await job.process.wait()
        if made.broker is not None:
            made.broker.stop()


@pytest.mark.parametrize("orderly", [False, True], ids=["killed", "restarted"])
@pytest.mark.parametrize("words", [("lease", "a"), ("run", "a", "--", "sh", "-c", "echo $HOTSEAT_LEASE active")])
async def test_who_waits_in_line_waits_on_over_a_restart_in_the_same_place(house, words, orderly):
    house.open()
    job = await house.start(*words)
    await job.until_says("a: place 1")
    (before,) = house.queue()
    await asyncio.to_thread(house.broker.stop if orderly else house.broker.kill)
    await job.until_says("your place is kept, trying again")
    job.said = ""
    await asyncio.to_thread(house.open)
    await job.until_says("a: place 1")
    assert [lease["leaseId"] for lease in house.queue()] == [before["leaseId"]]
    house.worker.load_s = 0.0
    house.worker._ready_at.clear()
    assert await job.end() == 0
    assert f"{before['leaseId']} active".encode() in await job.process.stdout.read()


@pytest.mark.parametrize("how", ["too_long", "emptied"])
async def test_who_has_lost_the_place_meanwhile_asks_anew(house, how):
    house.extra = IMPATIENT
    house.open()
    job = await house.start("lease", "a")
    await job.until_says("a: place 1")
    (before,) = house.queue()
    house.broker.kill()
    if how == "emptied":
        redis.Redis.from_url(house.store.url).flushall()
    else:
        await asyncio.sleep(6)
    await asyncio.to_thread(house.open)
    await job.until_says("the place in line was lost while nobody could ask for it; asking anew")
    await job.until_says("a: place 1")
    (after,) = house.queue()
    assert after["leaseId"] != before["leaseId"]


async def test_a_broker_that_is_just_starting_is_waited_for_and_one_that_is_not_there_is_told(house):
    house.open()
    house.broker.kill()
    early = await house.start("lease", "b", "--no-wait")
    await early.until_says("asking, trying again")
    await asyncio.to_thread(house.open)
    assert await early.end() == 0
    house.broker.kill()
    late = await house.start("lease", "b", "--no-wait")
    began_s = time.monotonic()
    assert await late.end(40) == 3
    assert time.monotonic() - began_s > 8
    assert "Connection refused); is `hotseat broker` up?" in late.said


async def test_an_address_that_is_none_is_told_at_once(house):
    house.open()
    job = await house.start("lease", "a", "--url", "localhost:4687")
    assert await job.end(5) == 3
    assert "the broker's address must begin with http:// or https://; set HOTSEAT_URL or --url" in job.said


async def test_who_has_waited_long_enough_leaves_the_line(house):
    house.open()
    job = await house.start("run", "a", "--max-wait", "2", "--", "true")
    assert await job.end() == 125
    assert "not our turn within --max-wait" in job.said
    assert house.queue() == []


async def test_a_job_works_on_over_a_restart_and_its_lease_is_renewed(house):
    house.worker.load_s = 0.0
    house.open()
    job = await house.start("run", "a", "--ttl", "9", "--", "sh", "-c", "until [ -e $DIR/finish ]; do sleep 0.1; done")
    await until(lambda: any(lease["state"] == "active" for lease in house.queue()))
    house.broker.kill()
    await job.until_says("trying again, the lease lasts")
    await asyncio.to_thread(house.open)
    await job.until_says("the broker answers again; the lease was renewed")
    (lease,) = house.queue()
    assert lease["state"] == "active"
    (house.folder / "finish").touch()
    assert await job.end() == 0
    assert house.queue() == []


async def test_a_job_is_stopped_when_its_lease_runs_out_while_no_broker_answers(house):
    house.worker.load_s = 0.0
    house.open()
    job = await house.start("run", "a", "--ttl", "3", "--", "sleep", "300")
    await until(lambda: any(lease["state"] == "active" for lease in house.queue()))
    house.broker.kill()
    began_s = time.monotonic()
    assert await job.end() == 124
    assert 1.5 < time.monotonic() - began_s < 60, "the command would sleep for 300 s"
    assert "the lease is over: it could not be renewed before its end: no answer from the broker" in job.said
    assert "stopping the command" in job.said


async def test_a_lease_is_given_back_to_the_next_broker_where_the_job_ends_in_between(house):
    house.worker.load_s = 0.0
    house.open()
    job = await house.start("run", "a", "--", "sh", "-c", "until [ -e $DIR/finish ]; do sleep 0.1; done")
    await until(lambda: any(lease["state"] == "active" for lease in house.queue()))
    house.broker.kill()
    (house.folder / "finish").touch()
    await asyncio.sleep(0.5)
    await asyncio.to_thread(house.open)
    assert await job.end() == 0
    assert house.queue() == []


# ------------------------------------------------------------------------------------- what stands before a broker


class Proxy:
    """A broker, or what stands before it, that answers what the test says, one after the other."""

    def __init__(self) -> None:
        self.script: list[tuple[int, bytes]] = []
        self.asked: list[tuple[str, dict, str]] = []
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.do_POST()

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                proxy.asked.append(
                    (self.path.partition("?")[0], json.loads(body or b"{}"), self.headers["Idempotency-Key"])
                )
                status, answer = proxy.script.pop(0) if proxy.script else (200, LEASE)
                if status == 0:
                    self.connection.close()
                    return
                self.send_response(status)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


LEASE = json.dumps({
    "leaseId": "L1", "nonce": "n1", "model": "a", "state": "active", "intent": "use", "expiresInSeconds": 60.0
}).encode()  # fmt: skip
QUEUED = json.dumps({"leaseId": "L1", "nonce": "n1", "model": "a", "state": "queued", "position": 1}).encode()
DRAINING = json.dumps({"code": "draining", "detail": "the broker is shutting down; ask again"}).encode()


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    made = Proxy()
    yield made
    made.server.shutdown()
    made.server.server_close()


PASSING = [
    (502, b"<html>bad gateway"),
    (503, DRAINING),
    (504, b""),
    (500, b"{}"),
    (0, b""),
    (503, b"no JSON"),
    (404, b"no such page"),
]


@pytest.mark.parametrize("trouble", PASSING, ids=lambda one: f"{one[0]}-{one[1][:6].decode()}")
async def test_whatever_stands_before_a_broker_that_restarts_is_waited_out(proxy, tmp_path, trouble):
    proxy.script = [trouble, trouble, (202, QUEUED), trouble, trouble, (200, LEASE)]
    process = await asyncio.create_subprocess_exec(
        HOTSEAT, "lease", "a", "--url", proxy.url, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 0, err
    assert out.startswith(b"L1 active")
    assert [path for path, _, _ in proxy.asked] == ["/lease"] * 3 + ["/lease/L1"] * 3
    assert len({operation for _, _, operation in proxy.asked[:3]}) == 1, "asking again is the same operation"
    assert err.count(b"trying again") == 2, err


@pytest.mark.parametrize("status, code", [(401, "unauthorised"), (403, "not_allowed"), (422, "bad_argument")])
async def test_a_refusal_is_not_waited_out(proxy, status, code):
    answer = json.dumps({"code": code, "detail": "no; ttlSeconds must be less"}).encode()
    proxy.script = [(202, QUEUED), (status, answer)]
    process = await asyncio.create_subprocess_exec(
        HOTSEAT, "lease", "a", "--url", proxy.url, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    _, err = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 1
    assert b"hotseat lease: no; --ttl must be less" in err
    assert proxy.asked[-1][0] == "/release", "the place is given up"


async def test_who_is_told_to_end_while_it_asks_gives_back_what_the_answer_brings(proxy):
    """The answer to the first question is on its way: nobody would ever ask about that lease again."""
    gate = threading.Event()
    answered = proxy.server.RequestHandlerClass.do_POST

    def slow(handler: object) -> None:
        if handler.path == "/lease":  # type: ignore[attr-defined]
            gate.wait(10)
        answered(handler)

    proxy.server.RequestHandlerClass.do_POST = slow
    process = await asyncio.create_subprocess_exec(
        "env", "--default-signal", HOTSEAT, "run", "a", "--url", proxy.url, "--", "true", stderr=asyncio.subprocess.PIPE
    )
    await asyncio.sleep(1.5)
    process.terminate()
    await asyncio.sleep(0.5)
    gate.set()
    assert await asyncio.wait_for(process.wait(), 20) == 143
    assert [(path, body.get("leaseId")) for path, body, _ in proxy.asked] == [("/lease", None), ("/release", "L1")]
