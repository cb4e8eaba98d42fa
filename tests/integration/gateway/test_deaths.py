"""A model server that dies at work: counted, told, and what it dies of is refused, while everybody else is served."""

import asyncio
import json

import pytest

from broker.access.principals import Scope
from hotseat.commands.ps import _slot_lines
from tests.fakes.broker_scene import config_of, key_entry, until
from tests.fakes.gateway_scene import CHAT, QUICK, RawClient, body_of, data_of, events_of, gateway_scene
from tests.fakes.scripted_server import DONE, GOOD, STREAM_HEAD, chunk, stream, whole, word
from tests.integration.gateway.test_trust import is_canary, route_to

SWIFT = QUICK | {"canary_pause_s": 0.01, "max_silent_s": 10.0, "dead_server_s": 0.2}
LONG = "x" * 240_000


@pytest.fixture(autouse=True)
def old_loads(monkeypatch):
    """Every server was loaded long ago: its death is no failed load."""
    monkeypatch.setattr("broker.pool.records.failures.SURVIVED_MS", 0)


def config(*keys: str, **gateway: object):
    entries = tuple(key_entry(key, Scope.LEASE, Scope.OBSERVE, Scope.OPERATE) for key in keys)
    return config_of(gateway=SWIFT | gateway, keys=entries)


def kills(scene, when, canaries=lambda _: False) -> None:
    """The server dies, and the worker says so, in the middle of answers to these requests."""
    server = scene.models["a"]

    def choose(asked) -> None:
        streams = b'"stream":true' in asked.body
        good = stream(word("one"), DONE) if streams else whole(GOOD)
        deadly = canaries(asked) if is_canary(asked) else when(asked.body)
        if deadly:
            scene.worker.dead.add("a")
        server.scripts[:] = [
            [STREAM_HEAD, chunk(word("one")), None] if deadly and streams else [None] if deadly else good
        ]

    server.on_ask = choose


async def ask(scene, session="one", key=None, **body):
    headers = {"x-hotseat-session": session} | (scene.auth(key) if key else {})
    return await scene.client.post(CHAT, json=body_of(**body), headers=headers)


async def dies(scene, session="one", key=None, **body) -> None:
    """A stream that its server's death ends."""
    answer = await ask(scene, session, key, stream=True, **body)
    assert answer.status_code == 200, answer.text
    assert data_of(events_of(answer.content)[-1])["error"]["code"] in {"upstream_broken", "lease_lost"}


async def model(scene, name="a") -> dict:
    models = (await scene.client.get("/models")).json()["models"]
    return next(one for one in models if one["name"] == name)


async def deaths(scene) -> int:
    return (await model(scene))["deaths"]


async def counted(scene, number: int) -> None:
    async def holds() -> bool:
        return await deaths(scene) == number

    await until(holds)


async def test_deaths_at_work_are_told_with_what_was_in_flight_wherever_one_looks(caplog):
    async with gateway_scene({"a": [[]]}, config("k")) as scene:
        kills(scene, lambda body: b"boom" in body)
        assert (await ask(scene)).status_code == 200
        for number in range(2):
            await dies(scene, user=f"boom {number}", prompt=LONG)
            await counted(scene, number + 1)
        seen = await model(scene)
        assert (seen["trust"], seen["deaths"], seen["banned"]) == ("trusted", 2, [])
        assert "its server died 2 times while it worked" in seen["trustReason"]
        assert "240 kB, about 60,000 tokens" in seen["trustReason"]
        status = (await scene.client.get("/status")).json()
        (failure,) = status["slots"][0]["failures"]
        assert (failure["model"], failure["fails"], failure["deaths"]) == ("a", 0, 2)
        assert "died 2 times" in "\n".join(_slot_lines({"status": status}))
        card = (await scene.client.get("/v1/models/a")).json()
        assert "died 2 times" in card["trust_reason"]
        assert 'hotseat_gateway_server_deaths_total{model="a"} 2.0' in (await scene.client.get("/metrics")).text
        told = [vars(record) for record in caplog.records if record.getMessage() == "server_died"]
        assert [(one["in_flight"], one["largest_bytes"] > 240_000, one["deaths"]) for one in told] == [
            (1, True, 1),
            (1, True, 2),
        ]
        kills(scene, lambda _: False)
        held = await scene.lease(model="b")
        why = (await scene.client.get(f"/lease/{held.json()['leaseId']}/why")).json()["lines"]
        assert not any("died" in line for line in why)
        queued = [await scene.lease(f"s{number}") for number in range(3)][-1]
        why = (await scene.client.get(f"/lease/{queued.json()['leaseId']}/why")).json()["lines"]
        assert any("died 2 times" in line for line in why)


async def test_a_model_that_dies_of_long_prompts_is_sent_none_and_serves_all_others():
    async with gateway_scene({"a": [[]]}, config("k", "l", quarantine_s=4.0)) as scene:
        kills(scene, lambda body: len(body) > 200_000)
        assert (await ask(scene, key="l")).status_code == 200
        for number in range(3):
            await dies(scene, f"agent-{number}", key="k", prompt=LONG, seed=number)
            await counted(scene, number + 1)
        seen = await model(scene)
        assert seen["trust"] in {"suspect", "canary"}
        (banned,) = seen["banned"]
        assert banned.startswith("prompts of 216 kB, about 54,000 tokens")
        asked = len(scene.models["a"].asked)
        refused = await ask(scene, "stranger", key="l", prompt=LONG)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "model_quarantined")
        assert "prompts of 216 kB" in refused.json()["error"]["message"]
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        assert all(is_canary(one) for one in scene.models["a"].asked[asked:])
        for session in ("agent-0", "stranger"):
            assert (await ask(scene, session, key="k")).content == GOOD
        assert 'hotseat_gateway_banned{model="a"} 1.0' in (await scene.client.get("/metrics")).text

        async def trusted() -> bool:
            return (await model(scene))["trust"] == "trusted"

        await until(trusted)  # its canary was answered, and the pause is over
        kills(scene, lambda _: False)
        assert (await ask(scene, "stranger", key="l", prompt=LONG)).content == GOOD, "a trial that is survived"
        assert (await model(scene))["banned"] == []


async def test_the_same_request_again_and_again_is_refused_and_its_session_is_served():
    async with gateway_scene({"a": [[]]}, config()) as scene:
        kills(scene, lambda body: b"boom" in body)
        for number in range(3):
            await dies(scene, user="boom")
            await counted(scene, number + 1)
        refused = await ask(scene, stream=True, user="boom")
        assert refused.status_code == 503
        assert "one and the same request" in refused.json()["error"]["message"]
        assert (await ask(scene)).content == GOOD
        assert (await scene.client.post("/slots/gpu0/heal")).status_code == 204

        async def healed() -> bool:
            return (await model(scene))["deaths"] == 0

        await until(healed)
        await dies(scene, user="boom")


async def test_a_session_whose_requests_kill_goes_elsewhere_and_nobody_else_does():
    async with gateway_scene({"a": [[]], "b": [whole(GOOD)]}, config()) as scene:
        kills(scene, lambda body: b"boom" in body)
        for number in range(3):
            await dies(scene, "fool", user=f"boom {number}")
            await counted(scene, number + 1)
        route_to(scene, "a", "b")
        assert (await ask(scene, "fool", user="boom 4")).headers["x-hotseat-model"] == "b"
        assert (await ask(scene, "other")).headers["x-hotseat-model"] == "a"


async def test_a_server_that_dies_under_everybody_is_quarantined_with_the_reason_and_comes_back():
    async with gateway_scene({"a": [[]]}, config(quarantine_s=1.0)) as scene:
        kills(scene, lambda _: True)
        for number in range(5):
            await dies(scene, f"agent-{number}", seed=number)
            await counted(scene, number + 1)
        assert (await model(scene))["trust"] == "quarantined"
        refused = await ask(scene, "newcomer")
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "model_quarantined")
        assert "its server died 5 times while it worked" in refused.json()["error"]["message"]
        kills(scene, lambda _: False)

        async def trusted() -> bool:
            return (await model(scene))["trust"] == "trusted"

        await until(trusted)
        assert (await ask(scene, "newcomer")).content == GOOD
        assert "died 5 times" in (await model(scene))["trustReason"]


async def test_a_server_that_dies_under_a_canary_alone_is_quarantined():
    async with gateway_scene({"a": [[]]}, config()) as scene:
        kills(scene, lambda body: b"boom" in body, canaries=lambda _: True)
        for number in range(3):
            await dies(scene, user="boom")
            await counted(scene, number + 1)
        await ask(scene, "other")  # a canary loads nothing

        async def quarantined() -> bool:
            return (await model(scene))["trust"] == "quarantined"

        await until(quarantined)


async def test_a_connection_that_breaks_off_counts_though_the_worker_says_nothing_of_a_death():
    async with gateway_scene({"a": [[STREAM_HEAD, chunk(word("one")), None]]}, config()) as scene:
        answer = await ask(scene, stream=True)
        assert data_of(events_of(answer.content)[-1])["error"]["code"] == "upstream_broken"
        await counted(scene, 1)


async def test_an_answer_that_is_never_begun_is_a_death_only_where_the_worker_says_so():
    async with gateway_scene({"a": [[None]]}, config(dead_server_s=0.05)) as scene:
        assert (await ask(scene)).status_code == 502
        await asyncio.sleep(0.1)
        assert await deaths(scene) == 0
        scene.models["a"].on_ask = lambda _: scene.worker.dead.add("a")
        await ask(scene, "other")

        async def known() -> bool:
            return await deaths(scene) > 0

        await until(known)
        (death, *_) = scene.context.deaths.deaths("a", asyncio.get_running_loop().time())
        assert [one.source.session for one in death.suspects][-1] == "other"


async def test_breaks_that_come_together_are_one_death():
    gate = asyncio.Event()
    async with gateway_scene({"a": [[STREAM_HEAD, chunk(word("one")), gate, None]]}, config()) as scene:
        clients = [asyncio.create_task(ask(scene, f"s{number}", stream=True)) for number in range(2)]
        await until(lambda: scene.models["a"].open == 2)
        gate.set()
        await asyncio.gather(*clients)
        await counted(scene, 1)
        (death,) = scene.context.deaths.deaths("a", asyncio.get_running_loop().time())
        assert len(death.suspects) == 2


async def test_a_lease_that_is_taken_away_and_a_client_that_goes_are_no_death():
    async with gateway_scene({"a": [[STREAM_HEAD, chunk(word("one")), 60.0]]}, config(dead_server_s=0.05)) as scene:
        for revoke in (True, False):
            client = await RawClient.to(scene.url)
            client.post(CHAT, json.dumps(body_of(stream=True)).encode())
            await client.head()
            await client.chunk()
            if revoke:
                await scene.store.end(scene.leases("active")[0].id, who="operator:x", why="operator")
            client.close()
            await scene.all_given_back()
        await asyncio.sleep(0.2)
        assert await deaths(scene) == 0


async def test_a_request_that_was_answered_is_no_suspect_of_a_later_death():
    async with gateway_scene({"a": [[]]}, config()) as scene:
        kills(scene, lambda _: False)
        await ask(scene)
        scene.worker.dead.add("a")
        await counted(scene, 1)
        (death,) = scene.context.deaths.deaths("a", asyncio.get_running_loop().time())
        assert death.suspects == ()


async def test_a_death_soon_after_a_load_is_told_beside_the_load_that_failed(monkeypatch):
    monkeypatch.setattr("broker.pool.records.failures.SURVIVED_MS", 60_000)
    async with gateway_scene({"a": [[]]}, config_of(gateway=SWIFT, load_backoff_s=0.1)) as scene:
        kills(scene, lambda body: b"boom" in body)
        await dies(scene, user="boom")
        await counted(scene, 1)
        (failure,) = (await scene.client.get("/status")).json()["slots"][0]["failures"]
        assert failure["deaths"] == 1
        assert "its server died once while it worked" in failure["error"]
