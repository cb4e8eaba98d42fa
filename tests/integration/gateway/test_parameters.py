"""One loaded model under several names that differ in parameters, as its server and an upstream hear of them."""

import json

from schemas.config.file import ModelEntry
from tests.fakes.cloud_scene import NEAR, alias, routed, routed_scene, stub, upstream
from tests.fakes.gateway_scene import CHAT, QUICK, body_of
from tests.fakes.scripted_server import whole

STRIP = {"strip": ["temperature"], "default": {"seed": 7}, "set": {"top_k": 20}}
MODELS = (
    ModelEntry(name="qwen", memory_mib=900, lease_limit=4, parameters=STRIP),
    ModelEntry(name="plain", memory_mib=900),
)


def variant(name: str, **kwargs: object) -> dict[str, object]:
    return alias(name, "qwen", parameters={"set": {"chat_template_kwargs": kwargs}})


VARIANTS = (
    variant("qwen:think", enable_thinking=True),
    variant("qwen:fast", enable_thinking=False),
    alias("Qwen 3 (30B, local)", "qwen"),
    alias("thoughtful", "qwen:think", "plain", prefer="listed"),
)


async def heard(scene, name: str, **fields: object) -> dict[str, object]:
    """What the model's server is sent."""
    answer = await scene.client.post(CHAT, json=body_of(name) | fields)
    assert (answer.status_code, answer.headers["x-hotseat-model"]) == (200, "qwen")
    return json.loads(scene.models["qwen"].asked[-1].body)


async def test_one_loaded_model_serves_several_names_that_differ_in_parameters():
    async with routed_scene({"qwen": [NEAR], "plain": [NEAR]}, routed(models=MODELS, aliases=VARIANTS)) as scene:
        always = {"model": "qwen", "seed": 7, "top_k": 20}
        thinks = {"chat_template_kwargs": {"enable_thinking": True}}
        assert await heard(scene, "qwen", temperature=0.1) == body_of("qwen") | always
        assert await heard(scene, "qwen:think", temperature=0.1, top_k=1) == body_of("qwen") | always | thinks
        fast = await heard(scene, "qwen:fast", chat_template_kwargs={"x": 1}, seed=1)
        assert fast["chat_template_kwargs"] == {"enable_thinking": False}
        assert fast["seed"] == 1
        assert await heard(scene, "thoughtful") == body_of("qwen") | always | thinks
        assert await heard(scene, "Qwen 3 (30B, local)") == body_of("qwen") | always
        listed = {card["id"] for card in (await scene.client.get("/v1/models")).json()["data"]}
        assert {"qwen", "qwen:think", "Qwen 3 (30B, local)"} <= listed
        one = await scene.client.get("/v1/models/Qwen 3 (30B, local)")
        assert one.json()["id"] == "Qwen 3 (30B, local)"
        await scene.all_given_back()


async def test_what_a_rule_leads_to_brings_its_own_parameters():
    """The deep thought of the same loaded model for whoever asks for effort, and a name of any form has some too."""
    rule = {"effort": ["high"], "candidates": ["qwen:think"]}
    aliases = (
        variant("qwen:think", enable_thinking=True),
        variant("qwen:plain", enable_thinking=False),
        alias("auto", "qwen:plain", rule=[rule]),
        alias("deep-*", "qwen:think"),
    )
    async with routed_scene({"qwen": [NEAR]}, routed(models=MODELS, aliases=aliases)) as scene:
        for name, fields, thinks in (
            ("auto", {}, False),
            ("auto", {"reasoning_effort": "high"}, True),
            ("deep-whatever", {}, True),
        ):
            assert (await heard(scene, name, **fields))["chat_template_kwargs"] == {"enable_thinking": thinks}


async def test_a_model_changes_its_requests_without_any_routing_too():
    async with routed_scene({"qwen": [NEAR]}, routed(models=MODELS)) as scene:
        assert await heard(scene, "qwen", temperature=0.1) == body_of("qwen") | {"seed": 7, "top_k": 20}


async def test_a_name_that_nobody_has_is_told_so_whatever_it_looks_like():
    async with routed_scene({"qwen": [NEAR]}, routed(models=MODELS, aliases=VARIANTS)) as scene:
        for name in ("Qwen 3 (30B, remote)", "a b", " qwen", "qwen\n", "q{w}en", "x" * 200):
            answer = await scene.client.post(CHAT, json=body_of(name))
            assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")


async def test_a_form_is_sent_on_under_the_servers_name_and_else_as_it_came():
    async with routed_scene({"qwen": [NEAR]}, routed(models=MODELS, aliases=VARIANTS)) as scene:
        form = {"file": ("a.wav", b"RIFF"), "model": (None, "qwen:think"), "temperature": (None, "0.5")}
        assert (await scene.client.post("/v1/audio/transcriptions", files=form)).status_code == 200
        body = scene.models["qwen"].asked[-1].body
        assert b"\r\n\r\nqwen\r\n" in body
        assert b"\r\n\r\n0.5\r\n" in body


async def test_an_upstream_is_sent_what_its_model_and_the_name_change(tmp_path):
    async with stub() as cloud:
        offer = {"offer": {"parameters": {"strip": ["seed"], "default": {"store": False, "effort": "low"}}}}
        far = upstream(tmp_path, "acme", cloud.url, **offer)
        deep = alias("deep", "cloud/acme", parameters={"set": {"effort": "high"}})
        async with routed_scene({"qwen": [NEAR]}, routed(far, models=MODELS, aliases=(deep,))) as scene:
            assert (await scene.client.post(CHAT, json=body_of("deep") | {"seed": 1})).status_code == 200
            sent = json.loads(cloud.asked[-1].body)
            assert sent == body_of("acme-large") | {"store": False, "effort": "high"}


async def test_an_upstream_of_ones_own_may_need_no_key_and_one_whose_variable_is_empty_is_not_asked(tmp_path):
    async with stub() as mine, stub() as theirs:
        own = upstream(tmp_path, "own", mine.url) | {"api_key_file": None, "inside": True}
        other = upstream(tmp_path, "other", theirs.url) | {"api_key_file": None, "api_key_env": "OTHER_KEY"}
        both = alias("both", "cloud/other", "cloud/own", prefer="listed")
        config = routed(own, other, models=MODELS, aliases=(both,), gateway=QUICK)
        assert [line for line in config.warnings() if "OTHER_KEY" in line] == [
            "routing.upstream 'other': OTHER_KEY is not set, so nothing goes there"
        ]
        async with routed_scene({"qwen": [NEAR]}, config) as scene:
            answer = await scene.client.post(CHAT, json=body_of("both"))
            assert (answer.status_code, answer.headers["x-hotseat-model"]) == (200, "cloud/own")
            assert mine.asked[-1].header("authorization") is None
            refused = await scene.client.post(CHAT, json=body_of("cloud/other"))
            assert (refused.status_code, theirs.accepted) == (503, 0)


NOTHING_SAID = whole(b'{"choices": [{"message": {"content": ""}, "finish_reason": "stop"}]}')


async def test_an_answer_is_judged_by_what_its_server_was_asked_and_not_by_what_the_client_wrote(tmp_path):
    """A model that ends where its name says has not fallen silent."""
    short = {"set": {"stop": ["END"]}}
    async with stub(NOTHING_SAID) as cloud:
        far = upstream(tmp_path, "acme", cloud.url, offer={"parameters": short})
        names = (alias("short", "qwen", parameters=short), alias("bare", "qwen", parameters={"strip": ["stop"]}))
        config = routed(far, models=MODELS, aliases=names, gateway=QUICK)
        async with routed_scene({"qwen": [NOTHING_SAID]}, config) as scene:
            for name, asked in (("short", scene.models["qwen"].asked), ("cloud/acme", cloud.asked)):
                answer = await scene.client.post(CHAT, json=body_of(name))
                assert (answer.status_code, len(asked)) == (200, 1), "passed on, and asked once"
            answer = await scene.client.post(CHAT, json=body_of("bare") | {"stop": ["END"]})
            assert (answer.status_code, len(scene.models["qwen"].asked)) == (200, 3), "thrown away, and asked again"
