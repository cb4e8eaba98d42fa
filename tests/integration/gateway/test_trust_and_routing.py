"""A model that answers badly does not block an alias that has other ways; private words stay here all the same."""

import json

from tests.fakes.broker_scene import until
from tests.fakes.cloud_scene import SAID, alias, routed, routed_scene, stub, upstream
from tests.fakes.gateway_scene import CHAT, QUICK, body_of
from tests.fakes.scripted_server import whole

AUTO = alias("auto", "a", "cloud/acme")
EMPTY = whole(b'{"choices": [{"message": {"content": ""}}]}')
SWIFT = QUICK | {"canary_pause_s": 0.01, "quarantine_s": 600.0, "max_silent_s": 10.0}
ARRAY = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "array"}}}


async def test_a_quarantined_model_is_passed_over_but_not_by_private_requests(tmp_path):
    async with stub() as cloud:
        config = routed(upstream(tmp_path, "acme", cloud.url), aliases=(AUTO,), gateway=SWIFT)
        async with routed_scene({"a": [EMPTY]}, config) as scene:
            answer = await scene.client.post(CHAT, json=body_of("a"))
            assert answer.status_code == 200

            async def refused() -> bool:
                return (await scene.client.post(CHAT, json=body_of("a"))).status_code == 503

            await until(refused)
            answer = await scene.client.post(CHAT, json=body_of("auto"))
            assert (answer.status_code, answer.headers["x-hotseat-route"]) == (200, "cloud")
            before = cloud.accepted
            private = {"x-hotseat-private": "1", "x-hotseat-session": "private"}
            answer = await scene.client.post(CHAT, json=body_of("auto"), headers=private)
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "model_quarantined")
            assert cloud.accepted == before
            await scene.all_given_back()


async def test_checked_output_may_be_an_upstreams_and_is_checked_there_too(tmp_path):
    async with stub(SAID) as cloud:
        config = routed(upstream(tmp_path, "acme", cloud.url), aliases=(AUTO,), gateway=SWIFT)
        async with routed_scene({"a": [[None]]}, config) as scene:
            body = body_of("auto", response_format=ARRAY, temperature=0)
            answer = await scene.client.post(CHAT, json=body, headers={"x-hotseat-validate": "strict"})
            assert (answer.status_code, answer.json()["error"]["code"]) == (422, "schema_violations")
            assert json.loads(cloud.asked[0].body)["response_format"] == ARRAY
            assert (await scene.client.post(CHAT, json=body)).headers["x-hotseat-route"] == "cloud"


async def test_who_takes_over_for_a_useless_answer_is_a_fallback_and_nobody_left_a_line(tmp_path):
    """A deadline is set, so a line could have been left; the model was loaded and its answer was the trouble."""
    async with stub() as cloud:
        config = routed(upstream(tmp_path, "acme", cloud.url), aliases=(AUTO,), gateway=SWIFT | {"suspect_at": 1})
        async with routed_scene({"a": [EMPTY]}, config) as scene:
            assert (await scene.client.post(CHAT, json=body_of("a"))).status_code == 200
            hurried = {"x-hotseat-deadline-s": "30", "x-hotseat-session": "another"}
            answer = await scene.client.post(CHAT, json=body_of("auto"), headers=hurried)
            told = (answer.status_code, answer.headers["x-hotseat-route"], answer.headers["x-hotseat-reason"])
            assert told == (200, "cloud", "fallback")
            assert len(scene.models["a"].asked) > 1, "it was asked first"
