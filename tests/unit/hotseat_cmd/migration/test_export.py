"""The provider blocks: complete, patient, and in the other program's words."""

import json

import pytest
import yaml

from hotseat.commands.export_ import FAILED, UNREACHABLE, main
from hotseat.migration.blocks import Offer, litellm_block, offer_of, openclaw_block, remarks

CONFIG = """
[broker]
anonymous = true
[[model]]
name = "chatty"
memory_mib = 100
model_path = "/m.gguf"
command = ["s", "-m", "{model_path}", "--port", "{port}", "--api-key-file", "{api_key_file}", "-c", "8192", "-np", "4"]
vision = true
[[model]]
name = "vectors"
memory_mib = 100
kind = "embedding"
"""


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "hotseat.toml"
    path.write_text(CONFIG)
    return str(path)


def test_openclaw_waits_and_says_which_conversation_it_is(config, capsys):
    assert main(["openclaw", "--config", config]) == 0
    shown = capsys.readouterr()
    provider = json.loads(shown.out)["models"]["providers"]["hotseat"]
    assert provider["baseUrl"] == "http://127.0.0.1:4687/v1"
    assert provider["api"] == "openai-completions"
    assert provider["timeoutSeconds"] >= 1800
    assert "request" not in provider
    (model,) = provider["models"]
    assert model["id"] == "chatty"
    assert model["compat"] == {"sendSessionAffinityHeaders": True}
    assert (model["contextWindow"], model["maxTokens"], model["input"]) == (2048, 1024, ["text", "image"])
    assert "vectors: left out" in shown.err


def test_beside_the_plugin_openclaw_needs_an_address_a_leave_and_a_model(config, capsys):
    assert main(["openclaw", "--plugin", "--config", config, "--base-url", "http://gpu:4687/v1/"]) == 0
    block = json.loads(capsys.readouterr().out)
    assert block["plugins"]["entries"]["hotseat"] == {
        "enabled": True,
        "hooks": {"allowConversationAccess": True},
        "config": {"brokerUrl": "http://gpu:4687"},
    }
    assert block["agents"]["defaults"]["model"]["primary"] == "hotseat/chatty"
    assert "models" not in block
    assert main(["openclaw", "--plugin", "--config", config, "--context-tokens", "8192"]) == 0
    entry = json.loads(capsys.readouterr().out)["plugins"]["entries"]["hotseat"]
    assert entry["config"] == {"brokerUrl": "http://127.0.0.1:4687", "contextTokens": 8192}


@pytest.mark.parametrize("words", [["openclaw", "--older"], ["litellm"]])
def test_the_plugin_is_for_the_current_openclaw(words, config):
    with pytest.raises(SystemExit):
        main([*words, "--plugin", "--config", config])


def test_the_pools_default_is_the_model_of_new_conversations(tmp_path, capsys):
    path = tmp_path / "hotseat.toml"
    path.write_text(CONFIG + '[[model]]\nname = "usual"\nmemory_mib = 1\ndefault = true\n')
    assert main(["openclaw", "--plugin", "--config", str(path)]) == 0
    assert json.loads(capsys.readouterr().out)["agents"]["defaults"]["model"]["primary"] == "hotseat/usual"


def test_an_older_openclaw_names_the_conversation_in_the_body(config, capsys):
    assert main(["openclaw", "--older", "--config", config]) == 0
    block = json.loads(capsys.readouterr().out)
    (model,) = block["models"]["providers"]["hotseat"]["models"]
    assert model["compat"] == {"supportsPromptCacheKey": True}
    assert block["diagnostics"] == {"stuckSessionAbortMs": 1_800_000}


@pytest.mark.parametrize(
    "base_url, needed",
    [
        ("http://127.0.0.1:4687/v1", False),
        ("http://[::1]:4687/v1", False),
        ("http://gpu.local:4687/v1", False),
        ("http://localhost:4687/v1", True),
        ("https://broker.example.com/v1", True),
    ],
)
def test_openclaw_needs_leave_for_host_names_only(base_url, needed):
    provider = json.loads(openclaw_block(base_url, [Offer(name="m")]))["models"]["providers"]["hotseat"]
    assert provider.get("request") == ({"allowPrivateNetwork": True} if needed else None)


def test_litellm_takes_a_queue_for_no_failure(config, capsys):
    assert main(["litellm", "--config", config, "--base-url", "http://10.0.0.5:4687/v1/"]) == 0
    block = yaml.safe_load(capsys.readouterr().out)
    chatty, vectors = block["model_list"]
    assert chatty["litellm_params"]["model"] == "openai/chatty"
    assert chatty["litellm_params"]["api_base"] == "http://10.0.0.5:4687/v1"
    assert chatty["litellm_params"]["api_key"] == "os.environ/HOTSEAT_API_KEY"
    assert chatty["litellm_params"]["timeout"] >= 1800
    assert (chatty["model_info"]["mode"], vectors["model_info"]["mode"]) == ("chat", "embedding")
    assert block["router_settings"]["disable_cooldowns"] is True
    assert block["litellm_settings"]["model_group_settings"]["forward_client_headers_to_llm_api"] == [
        "chatty",
        "vectors",
    ]


ROUTED = """
[[model]]
name = "writer"
memory_mib = 10
kind = "completion"
fallbacks = ["chatty"]
[[routing.upstream]]
name = "cloud"
base_url = "https://cloud.example/v1"
api_key_env = "CLOUD_KEY"
[[routing.upstream.model]]
name = "cloud/big"
[[routing.alias]]
name = "clever, and patient"
candidates = ["chatty", "cloud/big"]
"""


def test_litellm_gets_every_name_with_what_serves_in_its_place(tmp_path, capsys):
    path = tmp_path / "hotseat.toml"
    path.write_text(CONFIG + ROUTED)
    assert main(["litellm", "--config", str(path)]) == 0
    block = yaml.safe_load(capsys.readouterr().out)
    assert block["router_settings"]["fallbacks"] == [{"writer": ["chatty"]}, {"clever, and patient": ["cloud/big"]}]
    found = {entry["model_name"]: entry["model_info"]["mode"] for entry in block["model_list"]}
    assert found == {
        "chatty": "chat", "vectors": "embedding", "writer": "completion", "cloud/big": "chat",
        "clever, and patient": "chat",
    }  # fmt: skip


def test_litellm_asks_a_reranker_by_a_provider_that_it_can_rank_with():
    """It knows no reranker at ``openai/``, and adds ``/rerank`` to the address of ``hosted_vllm/``."""
    card = {"id": "ranks", "architecture": {"output_modalities": ["rerank"]}, "supported_endpoints": ["/v1/rerank"]}
    (entry,) = yaml.safe_load(litellm_block("http://h/v1", [offer_of(card)]))["model_list"]
    assert (entry["litellm_params"]["model"], entry["litellm_params"]["api_base"]) == (
        "hosted_vllm/ranks",
        "http://h/v1",
    )
    assert entry["model_info"]["mode"] == "rerank"


def test_litellm_sends_no_health_checks_that_load_models(config, capsys):
    assert main(["litellm", "--config", config]) == 0
    chatty, vectors = yaml.safe_load(capsys.readouterr().out)["model_list"]
    assert chatty["model_info"] == {
        "mode": "chat", "max_input_tokens": 2048, "supports_vision": True, "disable_background_health_check": True,
    }  # fmt: skip
    assert vectors["model_info"] == {"mode": "embedding", "disable_background_health_check": True}


@pytest.mark.parametrize(
    "card, told",
    [
        ({"state": "ready", "served": True}, "ready"),
        ({"state": "absent", "served": False}, "absent, served by no slot now"),
        ({"state": "loading", "served": True, "trust": "suspect"}, "loading; its answers are suspect"),
        ({"state": "absent", "trust": "quarantined"}, "absent; its answers are quarantined"),
        ({"state": "remote"}, "at an upstream"),
        ({}, None),
        ({"state": "x\n  - model_name: evil"}, None),
    ],
)
def test_how_a_model_is_stands_beside_it(card, told):
    block = litellm_block("http://h/v1", [offer_of({"id": "a", **card})])
    assert ("  # " + told in block) if told else ("#" not in block.partition("  - model_name")[0])
    assert len(yaml.safe_load(block)["model_list"]) == 1


@pytest.mark.parametrize("name", ["a", "org/model:q4", "x@1.2", "yes", "1e3", "00"])
def test_names_survive_in_both_formats(name):
    offers = [Offer(name=name)]
    assert yaml.safe_load(litellm_block("http://h/v1", offers))["model_list"][0]["model_name"] == name
    openclaw = json.loads(openclaw_block("http://h/v1", offers))
    assert openclaw["models"]["providers"]["hotseat"]["models"][0]["id"] == name


def test_a_model_is_offered_as_the_broker_tells_of_it():
    eyes = {"input_modalities": ["text", "image"], "output_modalities": ["text"]}
    cards = [
        {"id": "eyes", "context_length": 8192, "architecture": eyes},
        {"id": "vectors", "architecture": {"input_modalities": ["text"], "output_modalities": ["embeddings"]}},
        {"id": "cloud", "context_length": 200_000, "supported_endpoints": ["/v1/messages"]},
        {"id": "older-broker"},
    ]
    offers = [offer_of(card, 4096) for card in cards]
    models = json.loads(openclaw_block("http://h/v1", offers))["models"]["providers"]["hotseat"]["models"]
    assert [(model["id"], model["contextWindow"], model["input"]) for model in models] == [
        ("eyes", 8192, ["text", "image"]),
        ("older-broker", 4096, ["text"]),
    ]
    said = remarks("http://h/v1", offers, target="openclaw")
    left_out = [line.partition(":")[0] for line in said if "left out" in line]
    assert left_out == ["vectors", "cloud"]
    assert yaml.safe_load(litellm_block("http://h/v1", offers))["model_list"][1]["model_info"]["mode"] == "embedding"


def test_without_a_broker_it_says_so(capsys):
    assert main(["openclaw", "--url", "http://127.0.0.1:9"]) == UNREACHABLE
    assert "no answer from the broker" in capsys.readouterr().err


@pytest.mark.parametrize("base_url", ["ftp://x/v1", "http://", "http://me:pw@h/v1", "nonsense"])
def test_an_address_that_clients_cannot_use_is_refused(base_url, config, capsys):
    assert main(["litellm", "--config", config, "--base-url", base_url]) == FAILED
    assert "the address for clients must " in capsys.readouterr().err


def test_a_configuration_that_cannot_be_read_is_said(tmp_path, capsys):
    assert main(["litellm", "--config", str(tmp_path / "nowhere.toml")]) == FAILED
    assert "No such file" in capsys.readouterr().err


def test_listening_everywhere_is_no_address_for_clients(tmp_path, capsys):
    path = tmp_path / "hotseat.toml"
    key = f'[[key]]\nname = "k"\nsha256 = "{"0" * 64}"\n'
    path.write_text(CONFIG.replace("anonymous = true", 'host = "0.0.0.0"') + key)
    assert main(["openclaw", "--config", str(path)]) == 0
    assert "--base-url" in capsys.readouterr().err
