"""`hotseat mcp` with the official client, over stdio and streamable HTTP, against a real broker on a real store."""

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import msgspec
import pytest

from harness.broker_process import BrokerProcess
from harness.redis_servers import VALKEY, RedisServer
from harness.worker import FakeWorker
from schemas.messages import ResidencyReport
from tests.fakes.broker_scene import until
from tests.fakes.sdks import mcp

pytestmark = pytest.mark.redis
FAKE_MODEL = Path(__file__).parents[2] / "fakes" / "model_server.py"
TOOLS = {"gpu_status", "lease_model", "release_model", "queue_position", "complete"}


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def build(*where: object, **settings: object) -> object:
    """As in the program; its module imports the SDK."""
    from hotseat.mcp.server import build as made  # noqa: PLC0415

    return made(*where, **settings)


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("HOTSEAT_")}


class ServingWorker(FakeWorker):
    """Its models answer: ``a`` with tokens, ``b`` with nothing."""

    urls: dict[str, str]

    def _seen(self, *arguments: object) -> ResidencyReport:
        seen = super()._seen(*arguments)  # type: ignore[arg-type]
        return msgspec.structs.replace(seen, url=self.urls[seen.model]) if seen.url else seen


@contextlib.contextmanager
def model_server(*flags: str) -> Iterator[str]:
    port = free_port()
    process = subprocess.Popen([sys.executable, str(FAKE_MODEL), "--port", str(port), "--alias", "served", *flags])
    try:
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.kill()
        process.wait()


async def answers(url: str) -> bool:
    with contextlib.suppress(httpx.TransportError):
        async with httpx.AsyncClient(trust_env=False) as http:
            return (await http.get(url)).status_code < 500
    return False


@pytest.fixture(scope="module")
def broker() -> Iterator[BrokerProcess]:
    server = RedisServer(VALKEY).start()
    one = BrokerProcess(server.url).until_ready()
    one.store_url = server.url
    try:
        yield one
    finally:
        one.stop()
        server.close()


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, str]]:
    """One for each model; they outlive the workers of the tests, as real ones do."""
    with model_server() as talkative, model_server("--empty") as mute:
        yield {"a": talkative, "b": mute}


@pytest.fixture
async def pool(broker: BrokerProcess, servers: dict[str, str]) -> AsyncIterator[BrokerProcess]:
    """A worker whose two models do not fit together, and an empty queue afterwards."""
    for url in servers.values():
        await until(lambda url=url: answers(f"{url}/models"))
    worker = ServingWorker.on_redis(broker.store_url, serves=("a", "b"))
    worker.urls = servers
    async with worker.running():
        await until(lambda: any(slot["state"] == "open" for slot in get(broker, "/status")["slots"]))
        yield broker
        for lease in get(broker, "/queue")["leases"]:
            call(broker, "DELETE", f"/lease/{lease['leaseId']}")


def get(broker: BrokerProcess, path: str) -> dict:
    return call(broker, "GET", path)


def call(broker: BrokerProcess, method: str, path: str, **body: object) -> dict:
    return httpx.request(method, broker.url + path, json=body or None).raise_for_status().json()


def hold(broker: BrokerProcess, model: str) -> dict:
    """Somebody else's lease on a model that is loaded."""
    return call(broker, "POST", "/lease", sessionKey="other", model=model, ttlSeconds=600, wait=20)


@contextlib.contextmanager
def http_server(*argv: str) -> Iterator[str]:
    """`hotseat mcp --http`; answers the address."""
    port = free_port()
    process = subprocess.Popen([sys.executable, *argv, "--http", str(port)], env=environment())
    try:
        yield f"http://127.0.0.1:{port}/mcp"
    finally:
        process.terminate()
        assert process.wait(60) in {0, -15}


@contextlib.contextmanager
def http_server_killed(*argv: str) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """The same, for a test that kills it."""
    port = free_port()
    process = subprocess.Popen([sys.executable, *argv, "--http", str(port)], env=environment())
    try:
        yield f"http://127.0.0.1:{port}/mcp", process
    finally:
        process.kill()
        process.wait()


@contextlib.asynccontextmanager
async def client_of(way: str, url: str) -> "AsyncIterator[mcp.Client]":
    """The official client, connected to a process of its own."""
    argv = ["-m", "hotseat.cli", "mcp", "--url", url]
    if way == "stdio":
        async with mcp.Client(
            mcp.StdioServerParameters(command=sys.executable, args=argv, env=environment())
        ) as client:
            yield client
        return
    with http_server(*argv) as address:
        await until(lambda: answers(address), 30)
        async with mcp.Client(address) as client:
            yield client


def said(result) -> str:
    return result.content[0].text


def told(result) -> dict:
    assert not result.is_error, said(result)
    return json.loads(said(result))


@pytest.mark.parametrize("way", ["stdio", "http"])
async def test_a_session(way: str, pool: BrokerProcess):
    async with client_of(way, pool.url) as client:
        assert {tool.name for tool in (await client.list_tools()).tools} == TOOLS
        assert {str(one.uri) for one in (await client.list_resources()).resources} == {
            "hotseat://queue",
            "hotseat://models",
        }
        status = told(await client.call_tool("gpu_status", {}))
        assert {model["name"] for model in status["models"]} == {"a", "b"}

        answer = told(await client.call_tool("complete", {"model": "a", "prompt": "hello", "max_tokens": 3}))
        assert answer["text"].split() == ["tok0", "tok1", "tok2"]
        assert get(pool, "/queue")["leases"] == []  # given back

        held = told(await client.call_tool("lease_model", {"model": "a", "ttl_s": 100}))
        assert (held["state"], held["endpoint"]["baseUrl"]) == ("active", get_lease(pool)["endpoint"])
        mine = {"session": held["session"]}
        again = told(await client.call_tool("complete", {"model": "a", "prompt": "hello", "max_tokens": 2, **mine}))
        assert again["text"].split() == ["tok0", "tok1"]
        [lease] = told(await client.call_tool("queue_position", mine))["leases"]
        assert (lease["leaseId"], lease["state"]) == (held["leaseId"], "active")  # `complete` did not give it back

        queue = json.loads((await client.read_resource("hotseat://queue")).contents[0].text)
        assert [entry["leaseId"] for entry in queue["leases"]] == [held["leaseId"]]
        models = json.loads((await client.read_resource("hotseat://models")).contents[0].text)["models"]
        assert {model["name"]: model["holders"] for model in models}["a"] in {0, 1}
        assert told(await client.call_tool("release_model", {"model": "a", **mine})) == {"released": True}
        assert told(await client.call_tool("release_model", {"model": "a", **mine})) == {"released": False}

        refused = await client.call_tool("complete", {"model": "nobody-knows", "prompt": "hello"})
        assert refused.is_error
        assert "nobody-knows" in said(refused)


def get_lease(pool: BrokerProcess) -> dict:
    """What the lease the broker has says, its endpoint shortened to the address."""
    [lease] = get(pool, "/queue")["leases"]
    shown = call(pool, "GET", f"/lease/{lease['leaseId']}")
    return {**shown, "endpoint": shown["endpoint"]["baseUrl"]}


async def test_errors_say_what_to_do(pool: BrokerProcess):
    other = await asyncio.to_thread(hold, pool, "b")
    assert other["state"] == "active"
    async with mcp.Client(build(pool.url, "", session="agent:mine", stdio=True)) as client:
        busy = await client.call_tool("complete", {"model": "a", "prompt": "hello", "wait_s": 0.3})
        assert busy.is_error
        assert "GPU busy: place 1 in line for a" in said(busy)
        assert "call complete again with session 'agent:mine'" in said(busy)
        assert "a model that is ready now: b" in said(busy)

        [place] = told(await client.call_tool("queue_position", {}))["leases"]
        assert (place["state"], place["position"]) == ("queued", 1)
        assert place["why"]
        queued = told(await client.call_tool("lease_model", {"model": "a", "wait_s": 0}))
        assert (queued["state"], queued["leaseId"]) == ("queued", place["leaseId"])
        assert "Call lease_model again" in queued["next"]
        assert told(await client.call_tool("release_model", {"model": "a"})) == {"released": True}

        for arguments, words in [
            ({"model": "nobody-knows", "prompt": "hello"}, "nobody-knows"),
            ({"model": "a", "prompt": ""}, "prompt"),
            ({"model": "a", "prompt": "hello", "wait_s": -1}, "wait_s"),
        ]:
            refused = await client.call_tool("complete", arguments)
            assert refused.is_error
            assert words in said(refused)
        with contextlib.suppress(mcp.MCPError):  # as a tool error or a protocol error: the SDK's choice
            assert (await client.call_tool("unknown_tool", {})).is_error


async def test_the_place_in_line_is_kept_and_served(pool: BrokerProcess):
    other = await asyncio.to_thread(hold, pool, "b")
    told_of: list[str] = []

    async def progress(_done: float, _total: float | None, message: str | None) -> None:
        told_of.append(message or "")

    async with mcp.Client(build(pool.url, "", session=None, stdio=True)) as client:
        asking = {"model": "a", "prompt": "hello", "max_tokens": 1, "wait_s": 60}
        waiting = asyncio.create_task(client.call_tool("complete", asking, progress_callback=progress))
        await until(lambda: told_of)
        assert told_of[0].startswith("place 1 in line for a")
        call(pool, "POST", "/release", leaseId=other["leaseId"], nonce=other["nonce"])
        assert told(await waiting)["text"].strip() == "tok0"


@pytest.mark.parametrize("tool", ["complete", "lease_model"])
async def test_a_client_that_cancels_leaves_the_line(tool: str, pool: BrokerProcess):
    await asyncio.to_thread(hold, pool, "b")
    async with mcp.Client(build(pool.url, "", session=None, stdio=True)) as client:
        asking = {"model": "a", "wait_s": 60} | ({"prompt": "hello"} if tool == "complete" else {})
        waiting = asyncio.create_task(client.call_tool(tool, asking))
        await until(lambda: queued(pool) == 1)
        waiting.cancel()
        await until(lambda: queued(pool) == 0)


async def test_a_cancelled_question_for_a_lease_that_the_session_has_gives_nothing_back(pool: BrokerProcess):
    async with mcp.Client(build(pool.url, "", session="s", stdio=True)) as client:
        told(await client.call_tool("lease_model", {"model": "a", "wait_s": 20}))
        asking = asyncio.create_task(client.call_tool("lease_model", {"model": "a", "wait_s": 20}))
        await asyncio.sleep(0)
        asking.cancel()
        await asyncio.wait({asking})
        [lease] = told(await client.call_tool("queue_position", {}))["leases"]
        assert lease["state"] == "active"


@pytest.mark.parametrize("tool", ["complete", "lease_model"])
async def test_a_killed_process_leaves_the_line(tool: str, pool: BrokerProcess):
    await asyncio.to_thread(hold, pool, "b")
    argv = ["-m", "hotseat.cli", "mcp", "--url", pool.url]
    asking = {"model": "a", "wait_s": 60} | ({"prompt": "hello"} if tool == "complete" else {})
    was_in_line = False
    with http_server_killed(*argv) as (address, process):
        await until(lambda: answers(address), 30)
        with contextlib.suppress(Exception):  # of the client whose server is gone
            async with mcp.Client(address) as client:
                waiting = asyncio.create_task(client.call_tool(tool, asking))
                await until(lambda: queued(pool) == 1)
                was_in_line = True
                await asyncio.sleep(0.5)  # until it holds on
                process.kill()
                waiting.cancel()
        assert was_in_line
        await until(lambda: queued(pool) == 0)


def queued(broker: BrokerProcess) -> int:
    return sum(lease["state"] == "queued" for lease in get(broker, "/queue")["leases"])


@pytest.mark.parametrize("session", ["my chat", "größe 1", "ü" * 100])
async def test_a_session_of_any_name_finds_its_leases(session: str, pool: BrokerProcess):
    async with mcp.Client(build(pool.url, "", session=session, stdio=True)) as client:
        held = told(await client.call_tool("lease_model", {"model": "a", "intent": "warm"}))
        [lease] = told(await client.call_tool("queue_position", {}))["leases"]
        assert (lease["leaseId"], held["session"]) == (held["leaseId"], session)
        assert told(await client.call_tool("release_model", {"model": "a", "intent": "warm"})) == {"released": True}


async def test_two_answers_at_once_share_the_lease_and_it_is_given_back_after_both(pool: BrokerProcess):
    async with mcp.Client(build(pool.url, "", session=None, stdio=True)) as client:
        asking = {"model": "a", "prompt": "hello", "max_tokens": 1}
        both = await asyncio.gather(*(client.call_tool("complete", asking) for _ in range(2)))
    assert [told(one)["text"].strip() for one in both] == ["tok0", "tok0"]
    assert get(pool, "/queue")["leases"] == []


async def test_a_broker_that_is_away_is_said_to_be():
    async with mcp.Client(build("http://127.0.0.1:9", "", session=None, stdio=True)) as client:
        away = await client.call_tool("gpu_status", {})
    assert away.is_error
    assert "no answer from the broker at http://127.0.0.1:9" in said(away)


async def test_an_empty_answer_is_an_error(pool: BrokerProcess):
    async with mcp.Client(build(pool.url, "", session=None, stdio=True)) as client:
        empty = await client.call_tool("complete", {"model": "b", "prompt": "hello"})
    assert empty.is_error
    assert "b answered nothing" in said(empty)


def test_http_is_for_this_machine_only():
    argv = [sys.executable, "-m", "hotseat.cli", "mcp", "--http", "0", "--host", "0.0.0.0"]
    done = subprocess.run(argv, capture_output=True, text=True, env=environment(), timeout=30, check=False)
    assert (done.returncode, "loopback" in done.stderr) == (2, True)


INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "page", "version": "0"},
    },
}


async def test_a_web_page_can_do_nothing_over_http(broker):
    """Nor one of another port of this machine, which the SDK's own check lets in."""
    with http_server("-m", "hotseat.cli", "mcp", "--url", broker.url) as address:
        await until(lambda: answers(address), 30)
        accepted = {"Accept": "application/json, text/event-stream"}
        ways = [
            ({"Origin": "https://evil.example"}, 403),
            ({"Origin": "null"}, 403),
            ({"Origin": "http://localhost:3000", "Sec-Fetch-Site": "same-site"}, 403),
            ({"Sec-Fetch-Site": "cross-site"}, 403),
            ({"Host": "evil.example"}, 421),
            ({"Host": "evil.example", "Origin": "http://evil.example", "Sec-Fetch-Site": "same-origin"}, 421),
            ({"Content-Type": "text/plain"}, 415),
            ({"Host": "host.docker.internal:4690"}, 200),
            ({}, 200),
        ]
        async with httpx.AsyncClient(trust_env=False) as http:
            for way, status in ways:
                answer = await http.post(address, json=INITIALIZE, headers=accepted | way)
                assert answer.status_code == status, (way, answer.text)
                if status in {403, 421}:
                    for method in ("GET", "DELETE", "OPTIONS"):
                        assert (await http.request(method, address, headers=accepted | way)).status_code == status
