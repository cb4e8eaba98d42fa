"""What ``/v1/models`` tells of each name, and ``hotseat export`` with it."""

import asyncio
import json

import yaml

from hotseat.commands.export_ import main as export
from schemas.config.file import ModelEntry
from tests.fakes.broker_scene import key_entry
from tests.fakes.cloud_scene import NEAR, alias, routed, routed_scene, upstream

LOCAL = alias("local", "a", "b")
AUTO = alias("auto", "a", "cloud/acme")


async def test_the_list_of_models_tells_what_each_name_takes(tmp_path):
    command = ("s", "{port}", "{api_key_file}", "-c", "8192", "-np", "2")
    models = (
        ModelEntry(name="a", memory_mib=900, context_tokens=2000),
        ModelEntry(name="b", memory_mib=900, command=command, vision=True, fallbacks=("a",)),
        ModelEntry(name="vectors", memory_mib=900, kind="embedding"),
        ModelEntry(name="ranks", memory_mib=900, kind="rerank"),
    )
    aliases = (LOCAL, AUTO, alias("any", "vectors", "a"))
    keys = (key_entry("all"), key_entry("near", models=("a",)))
    clouds = (
        upstream(tmp_path, "acme", "https://acme.example/v1"),
        upstream(tmp_path, "other", "https://other.example/v1", protocol="anthropic"),
    )
    async with routed_scene({"a": [NEAR]}, routed(*clouds, models=models, aliases=aliases, keys=keys)) as scene:
        cards = {card["id"]: card for card in (await scene.client.get("/v1/models")).json()["data"]}
        mine = (await scene.client.get("/v1/models/auto", headers=scene.auth("near"))).json()
    told = {
        name: (card.get("context_length"), card["architecture"]["input_modalities"]) for name, card in cards.items()
    }
    sees = ["text", "image"]
    assert told == {
        "a": (2000, ["text"]),
        "b": (4096, sees),
        "vectors": (None, ["text"]),
        "ranks": (None, ["text"]),
        "local": (2000, sees),
        "auto": (2000, sees),
        "any": (None, ["text"]),
        "cloud/acme": (100_000, sees),
        "cloud/other": (100_000, sees),
    }
    embeds = {name for name, card in cards.items() if card["architecture"]["output_modalities"] == ["embeddings"]}
    assert embeds == {"vectors"}
    assert cards["ranks"]["architecture"]["output_modalities"] == ["rerank"]
    where = {name: card["supported_endpoints"] for name, card in cards.items() if "supported_endpoints" in card}
    assert (where["vectors"], where["ranks"]) == (["/v1/embeddings"], ["/v1/rerank"])
    assert where["cloud/other"] == ["/v1/messages", "/v1/messages/count_tokens"]
    assert "/v1/chat/completions" in where["cloud/acme"]
    assert set(where) == {"vectors", "ranks", "cloud/acme", "cloud/other"}
    assert mine["architecture"]["input_modalities"] == ["text"], "the key may not use the one that sees"
    assert "fallbacks" not in mine, "nor is it told of it"
    others = {name: card["fallbacks"] for name, card in cards.items() if "fallbacks" in card}
    assert others == {"b": ["a"], "local": ["b"], "auto": ["cloud/acme"], "any": ["a"]}


async def test_an_exported_block_has_what_the_running_broker_tells(capsys):
    models = (
        ModelEntry(name="b", memory_mib=900, context_tokens=2000, vision=True),
        ModelEntry(name="a", memory_mib=900, default=True),
        ModelEntry(name="vectors", memory_mib=900, kind="embedding"),
    )
    async with routed_scene({"a": [NEAR]}, routed(models=models)) as scene:
        assert await asyncio.to_thread(export, ["openclaw", "--url", scene.url]) == 0
        block = json.loads(capsys.readouterr().out)
        assert await asyncio.to_thread(export, ["openclaw", "--plugin", "--url", scene.url]) == 0
        beside = json.loads(capsys.readouterr().out)
    listed = block["models"]["providers"]["hotseat"]["models"]
    assert [(model["id"], model["contextWindow"], model["input"]) for model in listed] == [
        ("a", 32_768, ["text"]),
        ("b", 2000, ["text", "image"]),
    ]
    assert beside["plugins"]["entries"]["hotseat"]["config"] == {"brokerUrl": scene.url}
    assert beside["agents"]["defaults"]["model"] == {"primary": "hotseat/a"}


async def test_litellms_block_brings_fallbacks_and_how_each_model_is(tmp_path, capsys):
    models = (
        ModelEntry(name="a", memory_mib=900, default=True, fallbacks=("b",)),
        ModelEntry(name="b", memory_mib=900, context_tokens=2000, vision=True),
    )
    cloud = upstream(tmp_path, "other", "https://other.example/v1", protocol="anthropic")
    aliases = (alias("auto", "a", "cloud/other"),)
    async with routed_scene({"a": [NEAR]}, routed(cloud, models=models, aliases=aliases)) as scene:
        assert await asyncio.to_thread(export, ["litellm", "--url", scene.url]) == 0
        printed = capsys.readouterr().out
    block = yaml.safe_load(printed)
    assert block["router_settings"]["fallbacks"] == [{"a": ["b"]}, {"auto": ["cloud/other"]}]
    found = {entry["model_name"]: entry for entry in block["model_list"]}
    assert found["b"]["model_info"] == {
        "mode": "chat",
        "max_input_tokens": 2000,
        "supports_vision": True,
        "disable_background_health_check": True,
    }
    assert found["cloud/other"]["litellm_params"]["model"] == "anthropic/cloud/other"
    assert found["cloud/other"]["litellm_params"]["api_base"] == scene.url
    assert '  # absent, served by no slot now\n  - model_name: "b"' in printed
    assert '  # at an upstream\n  - model_name: "cloud/other"' in printed
