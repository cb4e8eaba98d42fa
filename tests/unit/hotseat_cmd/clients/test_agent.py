"""An agent's calls forgive what may happen to a broker."""

import asyncio
import json
from collections.abc import Callable

import httpx
import pytest

from hotseat.clients import agent
from hotseat.clients.agent import LeaseClient, TurnLostError, Update

QUEUED = {"leaseId": "L1", "nonce": "n", "state": "queued", "position": 2}
ACTIVE = {"leaseId": "L1", "nonce": "n", "state": "active", "endpoint": {"baseUrl": "http://m/v1", "apiKey": "k"}}
ENDED = {"leaseId": "L1", "nonce": "n", "state": "ended", "reason": "lost: server_died"}

Answer = httpx.Response | Exception


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent, "RETRY_S", 0.0)


def run(script: list[Answer], use: Callable) -> tuple[object, list[httpx.Request]]:
    """Run `use(client)` against a broker that gives these answers, one after the other."""
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        following = script.pop(0)
        if isinstance(following, Exception):
            raise following
        return following

    async def go() -> object:
        async with httpx.AsyncClient(base_url="http://b", transport=httpx.MockTransport(answer)) as http:
            return await use(LeaseClient(http, session_key="s"))

    return asyncio.run(go()), seen


async def all_of(client: LeaseClient) -> list[Update]:
    return [update async for update, _ in client.follow("L1")]


def events(*leases: dict) -> httpx.Response:
    lines = [
        f"event: x\ndata: {json.dumps({'lease': lease, 'residency': 'loading', 'progress': 40})}\n\n"
        for lease in leases
    ]
    return httpx.Response(200, text=": hello\n\n" + "".join(lines))


def test_asking_again_keeps_the_idempotency_key() -> None:
    script: list[Answer] = [httpx.ConnectError("down"), httpx.Response(503), httpx.Response(202, json=QUEUED)]
    lease, seen = run(script, lambda client: client.ask("gemma"))
    assert lease == QUEUED
    assert len({request.headers["Idempotency-Key"] for request in seen}) == 1
    assert len(seen) == 3


def test_a_refusal_for_good_is_not_repeated() -> None:
    with pytest.raises(httpx.HTTPStatusError):
        run([httpx.Response(404, json={})], lambda client: client.ask("nonsense"))


def test_retry_after_is_obeyed() -> None:
    assert agent._retry_after_s(httpx.Response(429, headers={"Retry-After": "7"})) == 7.0
    assert agent._retry_after_s(httpx.Response(429, headers={"Retry-After": "Fri, 21 Nov"})) == 0.0


def test_following_goes_on_after_a_cut_connection() -> None:
    script: list[Answer] = [events(QUEUED), httpx.ReadError("cut"), httpx.Response(503), events(ACTIVE, ENDED)]
    updates, _ = run(script, all_of)
    assert [update.state for update in updates] == ["queued", "active", "ended"]


def test_a_forgotten_lease_ends_the_turn() -> None:
    with pytest.raises(TurnLostError, match="404"):
        run([httpx.Response(404)], all_of)


def test_release_is_repeated_until_the_broker_heard_it() -> None:
    script: list[Answer] = [httpx.ConnectError("down"), httpx.Response(503), httpx.Response(200, json=ENDED)]
    _, seen = run(script, lambda client: client.release(ACTIVE))
    assert [json.loads(request.content) for request in seen] == [{"leaseId": "L1", "nonce": "n"}] * 3


def test_release_of_what_has_ended_is_nothing_to_worry_about() -> None:
    run([httpx.Response(409)], lambda client: client.release(ACTIVE))


def test_update_reads_place_and_expectation() -> None:
    lease = QUEUED | {"etaSeconds": 5.0, "etaLowSeconds": 3.0, "etaHighSeconds": 9.0}
    update = Update.of(lease, residency="loading", progress=40)
    assert (update.position, update.eta_s, update.progress) == (2, (5.0, 3.0, 9.0), 40)
    assert Update.of(QUEUED).eta_s is None
