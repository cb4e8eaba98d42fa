"""What one day's report tells, who may read it, and what a killed broker takes with it."""

import asyncio
import json
import time
from datetime import UTC, datetime

import httpx
import pytest

from broker.access.principals import Scope
from harness.broker_process import BrokerProcess
from harness.redis_servers import VALKEY, RedisServer
from hotseat.commands import report as reporting
from tests.fakes.broker_scene import config_of, key_entry, memory_scene
from tests.fakes.gateway_scene import CHAT, gateway_scene
from tests.fakes.scripted_server import DONE, stream, whole, word

USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":30,"completion_tokens":2,"total_tokens":32}}\n\n'


def counted(report: dict, kind: str) -> list[tuple]:
    return [(*row["labels"].values(), row["count"]) for row in report["counts"].get(kind, [])]


async def test_a_day_tells_of_requests_tokens_waits_and_loads():
    config = config_of(gateway={"report_every_s": 0.05})
    scripts = {"a": [stream(word("one"), USAGE, DONE), whole(b"{}")], "b": [whole(b"{}")]}
    async with gateway_scene(scripts, config) as scene:
        assert (await scene.client.get("/report")).json()["counts"] == {}
        await scene.client.post(CHAT, json={"model": "a", "stream": True})
        await scene.client.post(CHAT, json={"model": "a"})
        await scene.client.post(CHAT, json={"model": "b"})
        await scene.client.post(CHAT, json={"model": "stranger"})

        for _ in range(100):
            found = (await scene.client.get("/report")).json()
            if len(found["times"].get("load", [])) == 3 and sum(n for *_, n in counted(found, "requests")) == 4:
                break
            await asyncio.sleep(0.02)
        assert counted(found, "requests") == [("local", "named", 3), ("", "", 1)]
        assert counted(found, "outcomes") == [("local", "served", 3), ("", "model_not_found", 1)]
        assert counted(found, "tokens") == [("local", "a", "prompt", 30), ("local", "a", "completion", 2)]
        assert sorted(counted(found, "loads")) == [("a", "waiters", 1), ("b", "waiters", 1)]
        assert counted(found, "swaps") == [("b", 1)]
        waits = {row["labels"].get("model", "all"): row["count"] for row in found["times"]["wait"]}
        assert waits == {"all": 3, "a": 2, "b": 1}
        first = found["times"]["firstByte"][0]
        assert first["count"] == 3
        assert 0 <= first["p50Seconds"] <= first["p95Seconds"] < 5
        assert {row["labels"].get("model") for row in found["times"]["load"]} == {None, "a", "b"}


async def test_who_asks_at_once_sees_what_this_broker_has_just_served():
    config = config_of(gateway={"report_every_s": 300.0})
    async with gateway_scene({"a": [whole(b"{}")]}, config) as scene:
        await scene.client.post(CHAT, json={"model": "a"})
        found = (await scene.client.get("/report")).json()
        assert counted(found, "requests") == [("local", "named", 1)]


async def test_what_ends_with_the_broker_is_sent_first():
    config = config_of(gateway={"report_every_s": 300.0})
    async with gateway_scene({"a": [whole(b"{}")]}, config) as scene:
        await scene.client.post(CHAT, json={"model": "a"})
        store = scene.store
    today = datetime.now(UTC).strftime("%Y-%m-%d")
    assert (await store.days.read(today))["requests|local|named"] == 1


async def test_only_observers_read_it_and_a_day_must_be_one():
    keys = (key_entry("looks", Scope.OBSERVE), key_entry("asks", Scope.LEASE))
    async with memory_scene(config_of(keys=keys)) as scene:
        ask = scene.client.get
        assert (await ask("/report", headers=scene.auth("looks"))).status_code == 200
        assert (await ask("/report", headers=scene.auth("asks"))).status_code == 403
        assert (await ask("/report")).status_code == 401
        for day in ("yesterday", "2026-13-01", "2026-02-30", "2026-11-21|x", "20261121", "0", ""):
            answer = await ask("/report", params={"day": day}, headers=scene.auth("looks"))
            assert answer.status_code == 422, day
        empty = (await ask("/report", params={"day": "2001-01-01"}, headers=scene.auth("looks"))).json()
        assert (empty["day"], empty["counts"], empty["times"]) == ("2001-01-01", {}, {})


EVERY_S = 1.0


@pytest.fixture
def valkey():
    server = RedisServer(VALKEY, aof=True).start()
    yield server
    server.close()


def unknown_models(url: str, count: int) -> None:
    with httpx.Client(base_url=url) as client:
        for _ in range(count):
            assert client.post("/v1/chat/completions", json={"model": "nonesuch"}).status_code == 404


def requests_of(url: str) -> int:
    report = httpx.get(f"{url}/report").json()
    return sum(row["count"] for row in report["counts"].get("requests", []))


def until_counted(url: str, count: int) -> None:
    deadline_s = time.monotonic() + 10
    while (found := requests_of(url)) < count:
        assert time.monotonic() < deadline_s, found
        time.sleep(0.05)
    assert found == count


@pytest.mark.redis
def test_kill_9_loses_the_last_seconds_and_no_more(valkey, capsys):
    extra = f"[gateway]\nreport_every_s = {EVERY_S}\n"
    first = BrokerProcess(valkey.url, extra=extra).until_ready()
    second = None
    try:
        unknown_models(first.url, 5)
        until_counted(first.url, 5)
        unknown_models(first.url, 3)
        first.kill()  # at once: these three may be lost, or have just left
        second = BrokerProcess(valkey.url, extra=extra).until_ready()
        kept = requests_of(second.url)
        assert 5 <= kept <= 8
        unknown_models(second.url, 4)
        until_counted(second.url, kept + 4)
        assert reporting.report(["--url", second.url]) == 0
        shown = capsys.readouterr().out
        assert f"{kept + 4} requests: not routed {kept + 4} (100.0 %)" in shown
        assert "model_not_found" in shown
        assert reporting.report(["--url", second.url, "--json", "--day"]) == 0
        assert json.loads(capsys.readouterr().out)["pool"] == "default"
        assert reporting.report(["--url", second.url, "--day", "2026-02-30"]) == 1
        assert "query.day" in capsys.readouterr().err
        unknown_models(second.url, 2)
        assert second.stop() == 0
        third = BrokerProcess(valkey.url, extra=extra).until_ready()
        try:
            assert requests_of(third.url) == kept + 6, "a broker that is asked to end sends what it has"
        finally:
            third.stop()
    finally:
        first.kill()
        if second is not None:
            second.stop()
