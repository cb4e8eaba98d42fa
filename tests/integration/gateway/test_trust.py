"""A model that answers badly again and again is asked last, tested through a lease, and in the end asked no more."""

import asyncio
from dataclasses import replace

import pytest

from broker.access.principals import Scope
from broker.core.lease import ModelName
from broker.gateway.exchange.candidates import Candidate, Listed
from broker.gateway.trust.suspicion import Suspicion
from tests.fakes.broker_scene import config_of, key_entry, until
from tests.fakes.gateway_scene import CHAT, QUICK, body_of, gateway_scene, streamed
from tests.fakes.scripted_server import DONE, GOOD, stream, whole, word

EMPTY = whole(b'{"choices": [{"message": {"content": ""}}]}')
SWIFT = QUICK | {"canary_pause_s": 0.01, "quarantine_s": 0.1, "max_silent_s": 10.0}
QUESTIONS = (b"Reply with one word", b"Count from 1 to 5", b"1, 2, 3, 4, 5,")


def is_canary(asked) -> bool:
    return any(question in asked.body for question in QUESTIONS)


def answers(server, *, clients, canaries) -> None:
    """Which script clients get, and which the broker's own questions."""

    def choose(asked) -> None:
        server.scripts[:] = [canaries if is_canary(asked) else clients]

    server.on_ask = choose


def canaries_of(server) -> list:
    """Those that were asked; a canary may be several questions."""
    return [asked for asked in server.asked if QUESTIONS[0] in asked.body]


async def trust_in(scene, model="a") -> str:
    return (await scene.client.get(f"/v1/models/{model}")).json()["trust"]


async def becomes(scene, state, model="a") -> None:
    async def holds() -> bool:
        return await trust_in(scene, model) == state

    await until(holds)


def route_to(scene, *models: str) -> None:
    candidates = [Candidate(model=ModelName(name), reason=f"choice-{n}") for n, name in enumerate(models)]
    scene.broker.services.gateway.context = replace(scene.context, rule=lambda _: Listed(candidates))


async def ask(scene, session="s", **more):
    return await scene.client.post(CHAT, json=body_of(**more), headers={"x-hotseat-session": session})


async def complain(scene, *sessions: str) -> None:
    """Each of these sessions gets a bad answer, both of whose tries were bad: that counts once."""
    for number, session in enumerate(sessions):
        assert (await ask(scene, session, seed=number)).status_code == 200


async def test_a_suspect_is_tested_in_the_background_class_and_trusted_again_when_it_passes():
    async with gateway_scene({"a": [whole(GOOD)]}, config_of(gateway=SWIFT)) as scene:
        server = scene.models["a"]
        leases = []
        answers(server, clients=EMPTY, canaries=[0.2, *whole(GOOD)])
        choose = server.on_ask

        def note(asked) -> None:
            choose(asked)
            leases.extend(scene.leases("active") if is_canary(asked) else [])

        server.on_ask = note
        await complain(scene, "one")
        assert await trust_in(scene) == "trusted"
        await complain(scene, "two")
        assert await trust_in(scene) in {"suspect", "canary"}
        await becomes(scene, "canary")
        await becomes(scene, "trusted")
        (lease,) = leases
        assert (lease.who, lease.priority.value, lease.session) == ("broker:canary", "background", "canary")
        assert len(canaries_of(server)) == 1
        await scene.all_given_back()


async def test_a_model_that_fails_its_canary_is_refused_with_the_reason_until_it_answers_two_questions():
    config = config_of(gateway=SWIFT | {"quarantine_s": 1.0}, keys=(key_entry("k", Scope.LEASE, Scope.OBSERVE),))
    async with gateway_scene({"a": [EMPTY]}, config) as scene:
        server = scene.models["a"]
        await complain(scene, "s", "s")
        await becomes(scene, "quarantined")
        answers(server, clients=whole(GOOD), canaries=whole(GOOD))
        before = len(server.asked)
        openai = await ask(scene)
        anthropic = await scene.client.post("/v1/messages", json=body_of())
        assert len(server.asked) == before
        for answer, kind in ((openai, "server_error"), (anthropic, "overloaded_error")):
            assert answer.status_code == 503
            error = answer.json()["error"]
            assert (error["code"], error["type"]) == ("model_quarantined", kind)
            assert "empty" in error["message"]
            assert 1 <= int(answer.headers["retry-after"]) <= 60
            assert answer.headers["x-hotseat-model"] == "a"
        listed = (await scene.client.get("/models")).json()["models"]
        assert {model["name"]: model["trust"] for model in listed}["a"] == "quarantined"
        assert 'hotseat_gateway_trust{model="a",state="quarantined"} 1.0' in (await scene.client.get("/metrics")).text
        asked = len(canaries_of(server))
        await becomes(scene, "trusted")
        assert len(canaries_of(server)) == asked + 1
        assert (await ask(scene)).content == GOOD
        assert 'hotseat_gateway_trust{model="a",state="trusted"} 1.0' in (await scene.client.get("/metrics")).text


@pytest.mark.parametrize(
    "refusal, trust",
    [
        (whole(b'{"error": {"message": "this model takes no chat"}}', status=400), "suspect"),
        (whole(b'{"error": {"message": "no such endpoint"}}', status=501), "suspect"),
        (whole(b'{"error": {"message": "overloaded"}}', status=503), "suspect"),
        (whole(b'{"error": {"message": "model not found"}}', status=404), "quarantined"),
        (whole(b"{}", status=500), "quarantined"),
    ],
)
async def test_a_canary_that_is_not_taken_shows_nothing_unless_the_model_is_not_known(refusal, trust):
    config = config_of(gateway=SWIFT | {"quarantine_s": 60.0})
    async with gateway_scene({"a": [EMPTY]}, config) as scene:
        answers(scene.models["a"], clients=EMPTY, canaries=refusal)
        await complain(scene, "one", "two")
        await until(lambda: canaries_of(scene.models["a"]))
        await becomes(scene, trust)
        answers(scene.models["a"], clients=whole(GOOD), canaries=refusal)
        assert (await ask(scene)).status_code == (200 if trust == "suspect" else 503)


async def test_no_number_of_bad_answers_condemns_a_model_whose_canary_is_still_out():
    async with gateway_scene({"a": [EMPTY]}, config_of(gateway=SWIFT | {"canary_pause_s": 60.0})) as scene:
        answers(scene.models["a"], clients=EMPTY, canaries=[60.0])
        await complain(scene, *("one", "two", "three") * 5)
        answers(scene.models["a"], clients=whole(GOOD), canaries=[60.0])
        assert (await ask(scene, "four")).content == GOOD


async def test_a_model_with_nothing_to_say_to_one_question_is_asked_another():
    async with gateway_scene({"a": [EMPTY]}, config_of(gateway=SWIFT)) as scene:
        server = scene.models["a"]
        server.on_ask = lambda asked: server.scripts.__setitem__(
            slice(None), [whole(GOOD) if QUESTIONS[2] in asked.body else EMPTY]
        )
        await complain(scene, "one", "two")
        await until(lambda: any(QUESTIONS[2] in asked.body for asked in server.asked))
        await becomes(scene, "trusted")


async def test_a_suspect_is_asked_last_and_a_quarantined_model_not_at_all():
    config = config_of(gateway=SWIFT | {"quarantine_s": 60.0})
    async with gateway_scene({"a": [EMPTY], "b": [whole(GOOD)]}, config) as scene:
        answers(scene.models["a"], clients=EMPTY, canaries=[0.5, *EMPTY])
        await complain(scene, "one", "two")
        route_to(scene, "a", "b")
        assert await trust_in(scene) in {"suspect", "canary"}
        assert (await ask(scene)).headers["x-hotseat-reason"] == "choice-1"
        await becomes(scene, "quarantined")
        assert (await ask(scene)).headers["x-hotseat-model"] == "b"
        assert await trust_in(scene, "b") == "trusted"


async def test_the_second_try_goes_to_the_next_route_when_the_model_is_suspect_by_then():
    bad = stream(word(" "), DONE)
    config = config_of(gateway=SWIFT | {"suspect_at": 1.0})
    async with gateway_scene({"a": [bad], "b": [stream(word("hi"), DONE)]}, config) as scene:
        route_to(scene, "a", "b")
        answer = await streamed(scene)
        assert answer.content.endswith(word("hi") + DONE)  # a keepalive may come before
        assert len([asked for asked in scene.models["a"].asked if not is_canary(asked)]) == 1
        await scene.all_given_back()


async def test_an_answer_is_thrown_away_once_only():
    config = config_of(gateway=SWIFT | {"suspect_at": 1.0})
    async with gateway_scene({"a": [EMPTY], "b": [EMPTY]}, config) as scene:
        route_to(scene, "a", "b")
        answer = await ask(scene)
        assert (answer.status_code, answer.headers["x-hotseat-model"]) == (200, "b")
        assert len([asked for asked in scene.models["b"].asked if not is_canary(asked)]) == 1


async def test_an_operator_heals_it():
    config = config_of(gateway=SWIFT | {"quarantine_s": 600.0})
    async with gateway_scene({"a": [EMPTY]}, config) as scene:
        await complain(scene, "s", "s")
        await becomes(scene, "quarantined")
        answers(scene.models["a"], clients=whole(GOOD), canaries=EMPTY)
        assert (await scene.client.post("/slots/gpu0/heal")).status_code == 204
        await becomes(scene, "trusted")
        assert (await ask(scene)).content == GOOD


@pytest.mark.parametrize(
    "clients",
    [
        whole(b'{"choices": [{"message": {"content": "", "reasoning": "hm"}, "finish_reason": "length"}]}'),
        whole(b"{}", status=400),
        [None],
    ],
)
async def test_what_is_not_the_models_doing_does_not_count_against_it(clients):
    async with gateway_scene({"a": [clients]}, config_of(gateway=SWIFT | {"dead_server_s": 0.01})) as scene:
        await asyncio.gather(*(ask(scene, seed=number) for number in range(3)))
        assert scene.context.reputations.of("a") == Suspicion()


async def test_a_canary_that_waits_in_line_proves_nothing(monkeypatch):
    monkeypatch.setattr("broker.gateway.canaries.TICK_S", 1.5)
    monkeypatch.setattr("broker.gateway.canaries.WAIT_S", 0.3)
    async with gateway_scene({"a": [EMPTY]}, config_of(gateway=SWIFT)) as scene:
        await complain(scene, "one", "two")
        for holder in ("x", "y"):  # as many as the model takes
            assert (await scene.lease(holder)).status_code == 201
        await until(lambda: scene.leases("queued"))
        assert scene.leases("queued")[0].who == "broker:canary"
        await until(lambda: not scene.leases("queued"))
        assert await trust_in(scene) == "suspect"
        assert canaries_of(scene.models["a"]) == []
