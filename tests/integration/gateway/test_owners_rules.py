"""What a request is for, how hard it is to think, who is fast, who is busy: over a socket, as clients say it."""

import json

import pytest

from schemas.config.file import ModelEntry
from tests.fakes.broker_scene import key_entry, until
from tests.fakes.cloud_scene import NEAR, SAID, alias, routed, routed_scene, stub, upstream
from tests.fakes.gateway_scene import CHAT, body_of
from tests.fakes.scripted_server import DONE, stream, whole, word

RULES = [
    {"effort": ["high"], "candidates": ["b"]},
    {"min_tool_calls": 4, "candidates": ["cloud/acme", "b"], "prefer": "listed"},
    {"min_schema_depth": 4, "candidates": ["cloud/acme", "b"], "prefer": "listed"},
    {"task": ["summary", "classification"], "candidates": ["a"]},
    {"task": ["code"], "candidates": ["b", "cloud/acme"]},
]
SMART = alias("smart", "a", "cloud/acme", rule=RULES)
CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}


async def served(scene, **more):
    headers = more.pop("headers", None)
    answer = await scene.client.post(more.pop("path", CHAT), json=body_of("smart", **more), headers=headers)
    return answer.status_code, answer.headers.get("x-hotseat-model", "")


def says(text):
    return [{"role": "user", "content": text}]


async def test_a_names_rules_look_at_what_a_request_shows_in_every_protocol(tmp_path):
    async with stub() as cloud:
        config = routed(upstream(tmp_path, "acme", cloud.url), aliases=(SMART,))
        async with routed_scene({"a": [NEAR], "b": [NEAR]}, config) as scene:
            assert await served(scene) == (200, "a")
            assert await served(scene, reasoning_effort="high") == (200, "b")
            assert await served(scene, reasoning_effort="low") == (200, "a")
            assert await served(scene, chat_template_kwargs={"enable_thinking": False}) == (200, "a")
            loop = [*says("go"), *[{"role": "assistant", "tool_calls": [CALL]}, {"role": "tool", "content": "x"}] * 4]
            assert await served(scene, messages=loop) == (200, "cloud/acme")
            deep: dict = {"type": "string"}
            for _ in range(4):
                deep = {"type": "array", "items": deep}
            form = {"type": "json_schema", "json_schema": {"name": "x", "schema": deep}}
            assert await served(scene, response_format=form) == (200, "cloud/acme")
            assert await served(scene, messages=says("Write a function that adds.")) == (200, "b")
            assert await served(scene, messages=says("Summarize this: bees dance")) == (200, "a")


async def test_anthropics_budget_for_thinking_is_an_effort_too():
    said = whole(b'{"type":"message","model":"b","content":[{"type":"text","text":"hm"}],"stop_reason":"end_turn"}')
    rules = [{"effort": ["high"], "candidates": ["b"]}]
    async with routed_scene({"a": [said], "b": [said]}, routed(aliases=(alias("smart", "a", rule=rules),))) as scene:
        budget = {"thinking": {"type": "enabled", "budget_tokens": 31_999}, "max_tokens": 32_000}
        assert await served(scene, path="/v1/messages", **budget) == (200, "b")
        budget["thinking"] = {"type": "disabled"}
        assert await served(scene, path="/v1/messages", **budget) == (200, "a")


async def test_the_header_says_what_it_is_for_then_the_key_then_the_alias(tmp_path):
    keys = (key_entry("plain"), key_entry("coder", task="code"))
    aliases = (SMART, alias("mail", "smart", task="summary"))
    async with stub() as cloud:
        config = routed(upstream(tmp_path, "acme", cloud.url), aliases=aliases, keys=keys)
        async with routed_scene({"a": [NEAR], "b": [NEAR]}, config) as scene:
            coder = scene.auth("coder")
            assert await served(scene, headers={"x-hotseat-task": "code"}) == (200, "b")
            assert await served(scene, headers={"x-hotseat-task": "Code"}) == (200, "b")
            assert await served(scene, headers=coder) == (200, "b")
            assert await served(scene, headers={**coder, "x-hotseat-task": "summary"}) == (200, "a")
            answer = await scene.client.post(CHAT, json=body_of("mail", messages=says("Write a function.")))
            assert answer.headers["x-hotseat-model"] == "a"
            answer = await scene.client.post(CHAT, json=body_of("mail"), headers=coder)
            assert answer.headers["x-hotseat-model"] == "b"
            wrong = await scene.client.post(CHAT, json=body_of("smart"), headers={"x-hotseat-task": "codign"})
            assert wrong.status_code == 400
            message = wrong.json()["error"]["message"]
            assert "x-hotseat-task must be one of embedding, fill_in_the_middle" in message


async def test_no_rule_lets_a_private_request_out(tmp_path):
    loop = [*says("my ghp_token"), *[{"role": "assistant", "tool_calls": [CALL]}] * 4]
    async with stub() as cloud:
        config = routed(upstream(tmp_path, "acme", cloud.url), aliases=(SMART,))
        async with routed_scene({"a": [NEAR], "b": [NEAR]}, config) as scene:
            private = {"x-hotseat-private": "1"}
            assert await served(scene, messages=loop, headers=private) == (200, "b")
            assert cloud.accepted == 0


# ---------------------------------------------------------------------------------------------------------- GPU busy
def sees(scene, percent):
    def seen():
        last = scene.broker.scheduler.last
        return last and all(slot.foreign_percent == percent for slot in last.snapshot.slots)

    return until(seen)


async def test_while_others_use_the_gpu_requests_go_out_and_private_ones_never(tmp_path):
    auto = alias("auto", "a", "cloud/acme")
    async with stub() as cloud:
        config = routed(upstream(tmp_path, "acme", cloud.url), aliases=(auto,))
        async with routed_scene({"a": [NEAR]}, config) as scene:
            where = (CHAT, body_of("auto"))
            assert (await scene.client.post(where[0], json=where[1])).headers["x-hotseat-route"] == "local"
            scene.worker.used_percent, scene.worker.foreign_percent = 99, 95
            await sees(scene, 95)
            answer = await scene.client.post(where[0], json=where[1])
            assert (answer.headers["x-hotseat-route"], answer.headers["x-hotseat-reason"]) == ("cloud", "busy")
            private = {"x-hotseat-private": "1", "x-hotseat-session": "p"}
            answer = await scene.client.post(where[0], json=where[1], headers=private)
            assert (answer.headers["x-hotseat-route"], answer.headers["x-hotseat-model"]) == ("local", "a")
            status = (await scene.client.get("/status")).json()["slots"][0]
            assert (status["utilisationPercent"], status["foreignUtilisationPercent"]) == (99, 95)
            assert (
                'hotseat_slot_utilisation_percent{by="others",slot="gpu0"} 95.0'
                in (await scene.client.get("/metrics")).text
            )
            scene.worker.foreign_percent = 80
            await sees(scene, 80)
            assert (await scene.client.post(where[0], json=where[1])).headers["x-hotseat-route"] == "local"
            assert cloud.accepted == 1


async def test_a_line_that_is_longer_than_stated_is_left_without_any_deadline(tmp_path):
    auto = alias("auto", "a", "cloud/acme", busy_wait_s=0.5)
    async with stub() as cloud:
        config = routed(upstream(tmp_path, "acme", cloud.url), aliases=(auto,))
        async with routed_scene({"a": [NEAR]}, config) as scene:
            assert (await scene.client.post(CHAT, json=body_of("a"))).status_code == 200
            held = [await scene.lease(f"s{n}", "a") for n in range(2)]
            assert all(lease.json()["state"] == "active" for lease in held)
            answer = await scene.client.post(CHAT, json=body_of("auto"))
            assert (answer.headers["x-hotseat-route"], answer.headers["x-hotseat-reason"]) == ("cloud", "busy")
            assert not scene.leases("queued")


# ----------------------------------------------------------------------------------------------------------- fastest
def slow(*words, pause_s):
    return stream(*words, DONE, pause_s=pause_s)


async def test_the_fastest_is_learned_from_the_answers_that_pass(tmp_path):
    tokens = [word(f"tok{n}") for n in range(8)]
    quick = alias("quick", "a", "cloud/acme", "cloud/bolt", prefer="fastest")
    async with stub(stream(*tokens, DONE)) as acme, stub(slow(*tokens, pause_s=0.05)) as bolt:
        config = routed(
            upstream(tmp_path, "acme", acme.url, expected_first_byte_s=0.0),
            upstream(tmp_path, "bolt", bolt.url, expected_first_byte_s=0.0),
            aliases=(quick,),
        )
        async with routed_scene({"a": [slow(*tokens, pause_s=0.1)]}, config) as scene:
            assert (await scene.client.post(CHAT, json=body_of("a", stream=True))).status_code == 200
            seen = []
            for _ in range(5):
                answer = await scene.client.post(CHAT, json=body_of("quick", stream=True))
                seen.append((answer.headers["x-hotseat-model"], answer.headers["x-hotseat-reason"]))
            names = [name for name, _ in seen]
            assert set(names[:2]) == {"cloud/acme", "cloud/bolt"}, "of whom nothing is known is tried"
            assert names[2:] == ["cloud/acme"] * 3, seen
            assert seen[-1][1] == "fastest"
            models = {model["name"]: model for model in (await scene.client.get("/models")).json()["models"]}
            assert models["a"]["firstTokenSeconds"] >= 0
            assert 0 < models["a"]["tokensPerSecond"] < 200
            assert models["b"]["tokensPerSecond"] is None


async def test_an_answer_of_no_use_teaches_nothing(tmp_path):
    empty = json.dumps({"model": "a", "choices": [{"message": {"content": ""}}]}).encode()
    bad = [b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(empty) + empty]
    async with routed_scene({"a": [bad]}, routed(aliases=(alias("x", "a"),))) as scene:
        await scene.client.post(CHAT, json=body_of("x"))
        models = {model["name"]: model for model in (await scene.client.get("/models")).json()["models"]}
        assert (models["a"]["firstTokenSeconds"], models["a"]["tokensPerSecond"]) == (None, None)


# ----------------------------------------------------------------------------------------------------- quantisations
@pytest.mark.parametrize(
    "headers, body, model",
    [
        ({}, {}, "q8"),
        ({"x-hotseat-quantisation": "q4"}, {}, "q4"),
        ({"x-hotseat-quantisation": "q4_k_m, q8"}, {}, "q8"),
        ({}, {"provider": {"quantizations": ["int4"]}}, "q4"),
        ({"x-hotseat-quantisation": "q8"}, {"provider": {"quantizations": ["int4"]}}, "q8"),
        ({}, {"provider": {"quantizations": "int4"}}, "q8"),
        ({}, {"provider": "x"}, "q8"),
    ],
)
async def test_a_request_asks_for_a_quantisation_of_a_family(headers, body, model):
    models = (ModelEntry(name="q8", memory_mib=400), ModelEntry(name="q4", memory_mib=400, quantisation="Q4_K_M"))
    config = routed(models=models, family=[{"name": "big", "variants": ["q8", "q4"]}])
    async with routed_scene({"q8": [NEAR], "q4": [NEAR]}, config) as scene:
        answer = await scene.client.post(CHAT, json=body_of("big", **body), headers=headers)
        assert (answer.status_code, answer.headers["x-hotseat-model"]) == (200, model)


async def test_a_quantisation_that_a_family_has_not_is_refused_with_the_reason():
    models = (ModelEntry(name="q8", memory_mib=400), ModelEntry(name="q4", memory_mib=400))
    config = routed(models=models, family=[{"name": "big", "variants": ["q8", "q4"]}])
    async with routed_scene({"q8": [NEAR]}, config) as scene:
        for asked, status, words in (
            ("q5", 400, "big has no weights in the quantisation asked for"),
            ("q4;q8", 400, "x-hotseat-quantisation must be words"),
        ):
            headers = {"x-hotseat-quantisation": asked}
            answer = await scene.client.post(CHAT, json=body_of("big"), headers=headers)
            assert answer.status_code == status
            assert words in answer.json()["error"]["message"]
        assert not scene.leases("queued", "active", "ended")


async def test_an_upstream_is_sent_the_body_as_it_came(tmp_path):
    """What routing reads it leaves alone."""
    async with stub(SAID) as cloud:
        config = routed(upstream(tmp_path, "acme", cloud.url), aliases=(SMART,))
        async with routed_scene({"a": [NEAR]}, config) as scene:
            body = body_of("cloud/acme", reasoning_effort="high", provider={"quantizations": ["int4"]})
            assert (await scene.client.post(CHAT, json=body)).status_code == 200
            assert json.loads(cloud.asked[0].body) == {**body, "model": "acme-large"}
