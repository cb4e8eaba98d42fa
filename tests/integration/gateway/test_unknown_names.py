"""Names that nobody has, and none at all: who serves them, and that rights and privacy hold through them."""

import json

import pytest

from schemas.config.file import ModelEntry
from tests.fakes.broker_scene import config_of, key_entry, until
from tests.fakes.cloud_scene import NEAR, alias, routed, routed_scene, stub, upstream
from tests.fakes.gateway_scene import CHAT, body_of, gateway_scene

MODELS = (
    ModelEntry(name="a", memory_mib=900, default=True),
    ModelEntry(name="b", memory_mib=900),
    ModelEntry(name="gpt-oss-20b", memory_mib=900),
    ModelEntry(name="vectors", memory_mib=900, kind="embedding"),
)
SERVERS = {"a": [NEAR], "b": [NEAR], "gpt-oss-20b": [NEAR]}


def plain(models=MODELS, **more):
    return config_of(models=models, **more)


async def asks(scene, model, path=CHAT, **more):
    answer = await scene.client.post(path, json=body_of(model, max_tokens=5), **more)
    return answer.status_code, answer.headers.get("x-hotseat-model", "")


# ----------------------------------------------------------------------------------- without [routing], as it comes
@pytest.mark.parametrize(
    "name, path",
    [
        ("gpt-4o", CHAT),
        ("gpt-3.5-turbo-0125", CHAT),
        ("gpt-3.5-turbo-instruct", "/v1/completions"),
        ("claude-opus-4-6", "/v1/messages"),
        ("claude-sonnet-4-6", "/v1/messages"),
        ("claude-haiku-4-5-20251001", "/v1/messages"),
    ],
)
async def test_names_that_scripts_and_claude_code_have_built_in_mean_the_default(name, path):
    async with gateway_scene(SERVERS, plain()) as scene:
        assert await asks(scene, name, path) == (200, "a")
        assert json.loads(scene.models["a"].asked[0].body)["model"] == "a"


async def test_a_name_that_somebody_has_is_never_shadowed_and_another_unknown_one_is_refused():
    async with gateway_scene(SERVERS, plain()) as scene:
        assert await asks(scene, "gpt-oss-20b") == (200, "gpt-oss-20b")
        assert await asks(scene, "gemini-3") == (404, "gemini-3")
        assert not scene.models["a"].asked


async def test_without_a_default_every_unknown_name_is_refused():
    models = (ModelEntry(name="a", memory_mib=900), ModelEntry(name="b", memory_mib=900))
    async with gateway_scene({"a": [NEAR]}, plain(models)) as scene:
        assert (await asks(scene, "gpt-4o"))[0] == 404
        answer = await scene.client.post(CHAT, json={"messages": [{"role": "user", "content": "hi"}]})
        assert answer.status_code == 400
        assert "GET /v1/models lists what there is" in answer.json()["error"]["message"]


@pytest.mark.parametrize("config", [plain(), routed(models=MODELS, unknown_names=())], ids=["plain", "routed"])
async def test_an_unknown_name_is_told_in_the_same_words_wherever_it_is_asked_for(config):
    async with gateway_scene({"a": [NEAR]}, config) as scene:
        asked = await scene.client.post(CHAT, json=body_of("gemini-3"))
        looked = await scene.client.get("/v1/models/gemini-3")
        for answer in (asked, looked):
            assert answer.status_code == 404
            assert answer.json()["error"]["message"] == "no model gemini-3; GET /v1/models lists what there is"


async def test_a_pool_that_does_not_want_it_turns_it_off():
    async with gateway_scene({"a": [NEAR]}, routed(models=MODELS, unknown_names=())) as scene:
        assert (await asks(scene, "gpt-4o"))[0] == 404
    async with gateway_scene({"a": [NEAR]}, routed(models=MODELS, unknown_names=("*",))) as scene:
        assert await asks(scene, "anything") == (200, "a")


@pytest.mark.parametrize("body", [{}, {"model": None}, {"model": ""}])
@pytest.mark.parametrize("path", [CHAT, "/v1/messages", "/v1/responses"])
async def test_a_model_left_out_means_the_default_and_its_server_is_told_the_name(path, body):
    async with gateway_scene({"a": [NEAR]}, plain()) as scene:
        whole = {**body, "messages": [{"role": "user", "content": "hi"}], "input": "hi", "odd": 1.0e1}
        answer = await scene.client.post(path, json=whole)
        assert (answer.status_code, answer.headers["x-hotseat-model"]) == (200, "a")
        assert json.loads(scene.models["a"].asked[0].body) == {**whole, "model": "a"}


@pytest.mark.parametrize("model", [5, [], {}, True])
async def test_a_model_that_is_no_name_is_no_model_left_out(model):
    async with gateway_scene({"a": [NEAR]}, plain()) as scene:
        answer = await scene.client.post(CHAT, json={**body_of(), "model": model})
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "malformed")
        assert not scene.models["a"].asked


async def test_a_form_must_name_its_model():
    async with gateway_scene({"a": [NEAR]}, plain()) as scene:
        files = {"file": ("speech.wav", b"RIFF", "audio/wav")}
        assert (await scene.client.post("/v1/audio/transcriptions", files=files)).status_code == 400


async def test_the_rights_of_a_key_hold_for_the_model_that_serves():
    keys = (key_entry("near", models=("b",)), key_entry("far", models=("gpt-*",)), key_entry("mine", models=("a",)))
    async with gateway_scene(SERVERS, plain(keys=keys)) as scene:
        for name in ("gpt-4o", None):
            for key in ("near", "far"):
                answer = await scene.client.post(CHAT, json=body_of(name), headers=scene.auth(key))
                assert (answer.status_code, answer.json()["error"]["code"]) == (403, "not_allowed")
            assert await asks(scene, name, headers=scene.auth("mine")) == (200, "a")
        assert len(scene.models["a"].asked) == 2


async def test_the_list_says_what_there_is_and_which_names_mean_what():
    keys = (key_entry("all"), key_entry("near", models=("b",)))
    async with gateway_scene(SERVERS, plain(keys=keys)) as scene:

        async def loaded() -> bool:
            return (await scene.client.get("/v1/models/a")).json()["state"] == "ready"

        await until(loaded)  # the default is, at the start
        listed = (await scene.client.get("/v1/models")).json()
        assert {card["id"] for card in listed["data"]} == {"a", "b", "gpt-oss-20b", "vectors"}
        assert (listed["default"], listed["also_served"]) == ("a", {"gpt-*": ["a"], "claude-*": ["a"]})
        card = (await scene.client.get("/v1/models/claude-sonnet-4-6")).json()
        assert (card["id"], card["state"]) == ("claude-sonnet-4-6", listed["data"][0]["state"])
        near = await scene.client.get("/v1/models", headers=scene.auth("near"))
        assert "default" not in near.json()
        assert "also_served" not in near.json()
        assert (await scene.client.get("/v1/models/gpt-4o", headers=scene.auth("near"))).status_code == 404
        assert (await scene.client.get("/v1/models/gemini-3")).status_code == 404


# ----------------------------------------------------------------------------------------------------- with [routing]
async def test_of_an_operators_forms_the_most_specific_one_counts_and_comes_before_the_built_in_ones():
    aliases = (alias("*", "b"), alias("gpt-4*", "gpt-oss-20b"), alias("gpt-4o-mini", "b"), alias("clau?e-*", "b"))
    async with routed_scene(SERVERS, routed(models=MODELS, aliases=aliases)) as scene:
        assert await asks(scene, "gpt-4o") == (200, "gpt-oss-20b")
        assert await asks(scene, "gpt-4o-mini") == (200, "b")
        assert await asks(scene, "gpt-5") == (200, "b")
        assert await asks(scene, "claude-x") == (200, "b")
        assert await asks(scene, None) == (200, "a")
        listed = (await scene.client.get("/v1/models")).json()
        assert {card["id"] for card in listed["data"]} == {"a", "b", "gpt-oss-20b", "vectors", "gpt-4o-mini"}
        assert list(listed["also_served"]) == ["clau?e-*", "gpt-4*", "*", "claude-*", "gpt-*"]
        assert (await scene.client.get("/v1/models/anything")).json()["id"] == "anything"


async def test_the_default_may_be_an_alias(tmp_path):
    async with stub() as cloud:
        config = routed(
            upstream(tmp_path, "acme", cloud.url),
            models=MODELS,
            aliases=(alias("auto", "b", "cloud/acme"),),
            default="auto",
        )
        async with routed_scene(SERVERS, config) as scene:
            assert await asks(scene, "gpt-4o") == (200, "b")
            assert await asks(scene, None) == (200, "b")
            assert (await scene.client.get("/v1/models")).json()["default"] == "auto"


async def test_a_private_request_by_a_form_stays_and_a_form_of_a_private_name_makes_private(tmp_path):
    models = (*MODELS, ModelEntry(name="diary", memory_mib=900, private=True))
    async with stub() as cloud:
        config = routed(
            upstream(tmp_path, "acme", cloud.url),
            models=models,
            aliases=(alias("out*", "cloud/acme", "b", prefer="listed"), alias("my-*", "diary", "cloud/acme")),
        )
        async with routed_scene(SERVERS | {"diary": [NEAR]}, config) as scene:
            assert await asks(scene, "outside") == (200, "cloud/acme")
            kept = {"x-hotseat-private": "1", "x-hotseat-session": "s"}
            assert await asks(scene, "outside", headers=kept) == (200, "b")
            answer = await scene.client.post(CHAT, json=body_of("my-thoughts"), headers={"x-hotseat-session": "t"})
            assert (answer.headers["x-hotseat-model"], answer.headers["x-hotseat-private"]) == ("diary", "model")
            assert await asks(scene, "outside", headers={"x-hotseat-session": "t"}) == (200, "b")
            assert cloud.accepted == 1
