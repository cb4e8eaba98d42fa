"""A model that cannot be there: who waits hears why, at once where waiting is in vain, and is told where it is not."""

import asyncio
import json
import time

import pytest

from schemas.config.file import ModelEntry
from schemas.messages import FailureKind, Inspection
from tests.fakes.broker_scene import config_of, until
from tests.fakes.gateway_scene import CHAT, QUICK, SAID, RawClient, body_of, data_of, events_of, gateway_scene, streamed
from tests.fakes.scripted_server import GOOD, stream, whole
from tests.fakes.sdks import anthropic, openai

PATIENT = {"commit_after_s": 0.3, "keepalive_s": 0.2, "max_silent_s": 20.0}
PROMPT_S = 10.0
"""At once, on a machine that has much to do: half of the silence that a wait in vain would last."""
WORDS = "server_died: exited with status 1; error: invalid argument: --flash-atn"
HEAL = "error: invalid argument: --flash-atn"


def failing(scene, kind, *, times=10**6, model="a", error=WORDS):
    scene.worker.failure, scene.worker.error, scene.worker.fails_left[model] = kind, error, times


# ------------------------------------------------------------------------------------------------------- for good


@pytest.mark.parametrize("path, kind", [(CHAT, "server_error"), ("/v1/messages", "overloaded_error")])
async def test_a_model_that_cannot_load_says_so_at_once_in_the_servers_own_words(path, kind):
    async with gateway_scene({"a": [whole(GOOD)]}, config_of(gateway=PATIENT)) as scene:
        failing(scene, FailureKind.PERMANENT)
        for _ in range(2):  # the one that met the fault, and the next
            began_s = time.monotonic()
            answer = await scene.client.post(path, json=body_of(max_tokens=5))
            assert time.monotonic() - began_s < PROMPT_S
            assert answer.status_code == 503
            error = answer.json()["error"]
            assert (error["code"], error["type"]) == ("load_failed", kind)
            assert 1 <= int(answer.headers["retry-after"]) <= 30
            assert error["message"] == f"a cannot be loaded: {WORDS}; ask again in {answer.headers['retry-after']} s"
            assert answer.headers["x-should-retry"] == "false"
        assert scene.worker.fails_left["a"] == 10**6 - 1, "nothing was loaded for the second one"
        await scene.all_given_back()


async def test_every_waiter_ends_when_the_load_they_wait_for_cannot_succeed():
    async with gateway_scene({"a": [whole(GOOD)]}, config_of(gateway=PATIENT), load_s=0.8) as scene:
        failing(scene, FailureKind.PERMANENT)
        began_s = time.monotonic()
        plain = [scene.client.post(CHAT, json=body_of(), headers={"x-hotseat-session": f"s{n}"}) for n in range(5)]
        lease = scene.lease("t", wait=20)
        begun = streamed(scene)
        *answers, last, leased = await asyncio.gather(*plain, begun, lease)
        assert time.monotonic() - began_s < PROMPT_S
        assert [(answer.status_code, answer.json()["error"]["code"]) for answer in answers] == [
            (503, "load_failed")
        ] * 5
        assert last.status_code == 200, "it was begun with keepalives"
        error = data_of(events_of(last.content)[-1])["error"]
        assert (error["code"], HEAL in error["message"]) == ("load_failed", True)
        body = leased.json()
        assert (body["state"], body["reason"]) == ("ended", f"rejected: load_failed: {WORDS}")
        assert body["loadFailure"]["error"] == WORDS
        assert int(leased.headers["retry-after"]) >= 1


async def test_official_sdks_raise_the_reason_and_do_not_repeat_in_vain():
    async with gateway_scene({"a": [whole(GOOD)]}, config_of(gateway=PATIENT)) as scene:
        failing(scene, FailureKind.PERMANENT)
        began_s = time.monotonic()
        async with openai.AsyncOpenAI(base_url=f"{scene.url}/v1", api_key="any") as client:
            with pytest.raises(openai.InternalServerError, match="invalid argument: --flash-atn"):
                await client.chat.completions.create(model="a", messages=[{"role": "user", "content": "hi"}])
        async with anthropic.AsyncAnthropic(base_url=scene.url, api_key="any") as client:
            with pytest.raises(anthropic.InternalServerError, match="invalid argument: --flash-atn"):
                await client.messages.create(model="a", max_tokens=5, messages=[{"role": "user", "content": "hi"}])
        assert time.monotonic() - began_s < 25, "two retries of 30 s are not made"


async def test_what_its_worker_sees_cannot_be_started_evicts_nobody():
    async with gateway_scene({"a": [whole(GOOD)], "b": [whole(GOOD)]}, config_of(gateway=PATIENT)) as scene:
        assert (await scene.client.post(CHAT, json=body_of("b"))).status_code == 200
        scene.worker.inspections["a"] = Inspection(model="a", trouble="program not found: /opt/llama-server")
        await until(lambda: scene.broker.scheduler.last.snapshot.slots[0].failures)
        answer = await scene.client.post(CHAT, json=body_of("a"))
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "load_failed")
        assert "program not found: /opt/llama-server" in answer.json()["error"]["message"]
        assert scene.store.pool.models["b"].ready
        card = (await scene.client.get("/v1/models/a")).json()
        assert (card["served"], "program not found" in card["unavailable"]) == (False, True)
        status = (await scene.client.get("/status")).json()
        (failure,) = status["slots"][0]["failures"]
        assert (failure["kind"], failure.get("retryInSeconds")) == ("unsound", None)
        scene.worker.inspections.clear()
        await until(lambda: not scene.store.pool.models["a"].failing)
        assert (await scene.client.post(CHAT, json=body_of("a"))).status_code == 200


async def test_what_was_mended_is_tried_again_at_once():
    async with gateway_scene({"a": [whole(GOOD)]}, config_of(gateway=PATIENT)) as scene:
        scene.worker.inspections["a"] = Inspection(model="a", stamp="before")
        failing(scene, FailureKind.PERMANENT, times=1)
        assert (await scene.client.post(CHAT, json=body_of())).status_code == 503
        assert (await scene.client.post(CHAT, json=body_of())).status_code == 503
        scene.worker.inspections["a"] = Inspection(model="a", stamp="mended")
        await until(lambda: not scene.store.pool.models["a"].failing)
        assert (await scene.client.post(CHAT, json=body_of())).status_code == 200


async def test_why_and_models_tell_what_the_server_said():
    async with gateway_scene({"a": [whole(GOOD)]}, config_of(gateway=PATIENT, load_retry_s=20.0)) as scene:
        failing(scene, FailureKind.PASSING)
        lease = (await scene.lease("s", wait=10)).json()
        assert (lease["state"], lease["loadFailure"]["error"], lease["loadFailure"]["fails"]) == ("queued", WORDS, 1)
        assert 18 < lease["loadFailure"]["retryInSeconds"] <= 20
        why = await scene.client.get(f"/lease/{lease['leaseId']}/why")
        assert any(line.startswith("its load failed once") and WORDS in line for line in why.json()["lines"])

        async def told() -> bool:
            models = (await scene.client.get("/models")).json()["models"]
            return {model["name"]: model.get("loadError") for model in models}["a"] == WORDS

        await until(told)  # from the scheduler's last look


# ---------------------------------------------------------------------------------------------------- fallbacks first


async def test_a_fallback_answers_for_a_model_that_cannot_load_and_needs_no_routing_table():
    models = (
        ModelEntry(name="a", memory_mib=900, fallbacks=("b",)),
        ModelEntry(name="b", memory_mib=900),
    )
    config = config_of(gateway=PATIENT, models=models)
    async with gateway_scene({"a": [whole(GOOD)], "b": [whole(GOOD)]}, config) as scene:
        failing(scene, FailureKind.PERMANENT)
        for _ in range(2):
            answer = await scene.client.post(CHAT, json=body_of("a"))
            assert (answer.status_code, answer.headers["x-hotseat-model"]) == (200, "b")


async def test_a_name_whose_models_all_fail_is_refused_at_once_with_the_reason():
    models = (
        ModelEntry(name="a", memory_mib=900, fallbacks=("b",)),
        ModelEntry(name="b", memory_mib=900),
    )
    config = config_of(gateway=PATIENT, models=models)
    async with gateway_scene({"a": [whole(GOOD)], "b": [whole(GOOD)]}, config) as scene:
        failing(scene, FailureKind.PERMANENT)
        failing(scene, FailureKind.PERMANENT, model="b")
        for _ in range(3):
            began_s = time.monotonic()
            answer = await scene.client.post(CHAT, json=body_of("a"))
            assert time.monotonic() - began_s < PROMPT_S
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "load_failed")
            assert HEAL in answer.json()["error"]["message"]
            assert int(answer.headers["retry-after"]) >= 1


# -------------------------------------------------------------------------------------------------------- in passing


async def test_a_load_that_fails_once_is_tried_again_within_seconds_and_nobody_notices():
    async with gateway_scene({"a": [whole(GOOD)]}, config_of(gateway=PATIENT)) as scene:
        failing(scene, FailureKind.PASSING, times=1)
        began_s = time.monotonic()
        answer = await scene.client.post(CHAT, json=body_of())
        assert answer.status_code == 200
        assert "x-hotseat-load-error" not in answer.headers
        assert time.monotonic() - began_s < PROMPT_S


async def test_a_waiting_stream_is_told_of_the_first_failure_and_gets_its_answer():
    config = config_of(gateway=PATIENT, load_retry_s=1.5)
    async with gateway_scene({"a": [stream(*SAID)]}, config, load_s=0.6) as scene:
        failing(scene, FailureKind.PASSING, times=1)
        client = await RawClient.to(scene.url)
        client.post(CHAT, json.dumps(body_of(stream=True)).encode())
        status, _ = await client.head()
        frames = await client.chunks()
        client.close()
        assert status == 200
        told = [frame for frame in frames if frame.startswith(b": ")]
        assert b"its load failed (" + WORDS.encode() in told[0]
        assert b"position 1" in told[0]
        assert frames[-len(SAID) :] == SAID


async def test_a_stream_begun_after_the_first_failure_says_so_in_its_head():
    config = config_of(gateway=PATIENT, load_retry_s=1.5)
    async with gateway_scene({"a": [stream(*SAID)]}, config) as scene:
        failing(scene, FailureKind.HOST, times=1, error="no free port on 127.0.0.1 …")
        answer = await streamed(scene)
        assert answer.status_code == 200
        assert answer.headers["x-hotseat-load-error"].startswith("its load failed (no free port on 127.0.0.1 ?)")
        assert answer.content.endswith(b"".join(SAID))


async def test_who_does_not_stream_is_sent_away_with_the_error_and_its_place():
    config = config_of(gateway=PATIENT | {"max_silent_s": 1.0}, load_retry_s=3.0)
    async with gateway_scene({"a": [whole(GOOD)]}, config) as scene:
        failing(scene, FailureKind.PASSING, times=1)
        answer = await scene.client.post(CHAT, json=body_of())
        assert answer.status_code == 429
        error = answer.json()["error"]
        assert (error["code"], error["position"], error["load_error"]) == ("queued", 1, WORDS)
        assert WORDS in error["message"]
        assert WORDS in answer.headers["x-hotseat-load-error"]
        assert int(answer.headers["retry-after"]) >= 1
        await asyncio.sleep(2)
        await until(lambda: scene.leases("active"))
        assert (await scene.client.post(CHAT, json=body_of())).status_code == 200


async def test_lease_events_tell_of_each_failure():
    config = config_of(load_retry_s=0.5)
    async with gateway_scene({"a": [whole(GOOD)]}, config) as scene:
        failing(scene, FailureKind.PASSING, times=2)
        body = (await scene.lease()).json()
        fails = []
        async with scene.client.stream("GET", f"/lease/{body['leaseId']}/events") as events:
            async for line in events.aiter_lines():
                if line == "event: granted":
                    break
                if line.startswith("data: ") and (failure := json.loads(line[6:])["lease"].get("loadFailure")):
                    fails.append((failure["fails"], failure["error"]))
        assert sorted(set(fails)) == [(1, WORDS), (2, WORDS)]


async def test_a_failure_that_is_over_is_nobodys_trouble():
    """One failed load long ago, the model ready since: who waits for a place streams, and is not sent away."""
    config = config_of(gateway=QUICK | {"commit_after_s": 0.5})
    async with gateway_scene({"b": [[2.5, *stream(*SAID)]]}, config) as scene:
        failing(scene, FailureKind.PASSING, times=1, model="b")
        first = asyncio.create_task(streamed(scene, model="b", headers={"x-hotseat-session": "one"}))
        await until(lambda: scene.models["b"].open)
        answer = await streamed(scene, model="b", headers={"x-hotseat-session": "two"})
        assert answer.status_code == 200
        assert "x-hotseat-load-error" not in answer.headers
        assert (await first).status_code == 200


async def test_one_crash_of_a_ready_server_costs_a_reload_and_no_more():
    async with gateway_scene({"a": [whole(GOOD)]}, config_of(gateway=PATIENT)) as scene:
        assert (await scene.client.post(CHAT, json=body_of())).status_code == 200
        scene.worker.failure, scene.worker.error = FailureKind.PASSING, "server_died: killed by SIGSEGV"
        scene.worker.dead.add("a")
        await until(lambda: not scene.store.pool.models["a"].ready)
        began_s = time.monotonic()
        assert (await scene.client.post(CHAT, json=body_of())).status_code == 200
        assert time.monotonic() - began_s < PROMPT_S


# ------------------------------------------------------------------------------------------------ up and doing nothing


async def test_a_silent_server_is_doubted_proved_useless_and_the_request_is_answered_by_the_next():
    gateway = PATIENT | {"sign_of_life_unknown_s": 0.3}
    async with gateway_scene({"a": [[60.0], whole(GOOD)]}, config_of(gateway=gateway)) as scene:
        scene.worker.useless, scene.worker.failure = {"a"}, FailureKind.USELESS
        scene.worker.error = "server_useless: no token within 15 s, and its processes did nothing meanwhile"
        answer = await scene.client.post(CHAT, json=body_of())
        assert answer.status_code == 200
        assert len(scene.models["a"].asked) == 2
        first, second = (asked.header("authorization") for asked in scene.models["a"].asked)
        assert first != second
        await scene.all_given_back()


async def test_a_server_that_is_useless_again_is_given_up_with_the_reason():
    gateway = PATIENT | {"sign_of_life_unknown_s": 0.3}
    async with gateway_scene({"a": [[60.0]]}, config_of(gateway=gateway)) as scene:
        scene.worker.useless, scene.worker.failure = {"a"}, FailureKind.USELESS
        scene.worker.error = "server_useless: no token within 15 s, and its processes did nothing meanwhile"
        answer = await scene.client.post(CHAT, json=body_of())
        assert (answer.status_code, answer.json()["error"]["code"]) == (502, "lease_lost")
        answer = await scene.client.post(CHAT, json=body_of())
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "model_quarantined")
        assert "no token within 15 s" in answer.json()["error"]["message"]
        assert int(answer.headers["retry-after"]) >= 1


async def test_a_slow_request_that_its_worker_does_not_prove_useless_is_waited_for():
    gateway = PATIENT | {"sign_of_life_unknown_s": 0.2}
    async with gateway_scene({"a": [[1.5, *whole(GOOD)]]}, config_of(gateway=gateway)) as scene:
        assert (await scene.client.post(CHAT, json=body_of())).status_code == 200
        assert len(scene.models["a"].asked) == 1
        assert [event.kind for event in await scene.store.events("0-0", block_s=0, limit=1000)].count("doubted") == 1


async def test_a_stream_that_begins_and_says_nothing_is_no_sign_of_life():
    role = b'data: {"choices":[{"index":0,"delta":{"role":"assistant"}}]}\n\n'
    gateway = PATIENT | {"sign_of_life_unknown_s": 1.5, "head_s": 0.1}
    async with gateway_scene({"a": [[*stream(role)[:2], 60.0]]}, config_of(gateway=gateway)) as scene:
        client = await RawClient.to(scene.url)
        client.post(CHAT, json.dumps(body_of(stream=True)).encode())
        await client.head()
        await until(lambda: scene.store.pool.residencies["gpu0", "a"].doubts)
        client.close()


async def test_errors_of_memory_are_doubted_at_once():
    script = whole(b'{"error":{"message":"CUDA error: out of memory"}}', status=500)
    async with gateway_scene({"a": [script]}, config_of(gateway=PATIENT)) as scene:
        assert (await scene.client.post(CHAT, json=body_of())).status_code == 500
        await until(lambda: scene.store.pool.residencies["gpu0", "a"].doubts)
