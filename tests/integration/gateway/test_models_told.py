"""What ``/v1/models`` tells of each name, and ``hotseat export`` with it."""

import asyncio
import json

from hotseat.exporting import main as export
from schemas.config_file import ModelEntry
from tests.fakes.broker_scene import key_entry
from tests.fakes.cloud_scene import NEAR, alias, routed, routed_scene, upstream

LOCAL = alias("local", "a", "b")
AUTO = alias("auto", "a", "cloud/acme")


async def test_the_list_of_models_tells_what_each_name_takes(tmp_path):
    command = ("s", "{port}", "{api_key_file}", "-c", "8192", "-np", "2")
    models = (
        ModelEntry(name="a", memory_mib=900, context_tokens=2000),
        ModelEntry(name="b", memory_mib=900, command=command, vision=True),
        ModelEntry(name="vectors", memory_mib=900, kind="embedding"),
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
        "local": (2000, sees),
        "auto": (2000, sees),
        "any": (None, ["text"]),
        "cloud/acme": (100_000, sees),
        "cloud/other": (100_000, sees),
    }
    embeds = {name for name, card in cards.items() if card["architecture"]["output_modalities"] == ["embeddings"]}
    assert embeds == {"vectors"}
    where = {name: card["supported_endpoints"] for name, card in cards.items() if "supported_endpoints" in card}
    assert where["vectors"] == ["/v1/embeddings"]
    assert where["cloud/other"] == ["/v1/messages", "/v1/messages/count_tokens"]
    assert "/v1/chat/completions" in where["cloud/acme"]
    assert set(where) == {"vectors", "cloud/acme", "cloud/other"}
    assert mine["architecture"]["input_modalities"] == ["text"], "the key may not use the one that sees"


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
