"""What llama-swap's settings mean, in ours."""

from pathlib import Path

import pytest

SOURCES = Path(__file__).parent / "sources" / "llama_swap"
SERVER = "llama-server --port ${PORT} -m /m.gguf"


def models(document):
    return {model["name"]: model for model in document["model"]}


def aliases(document):
    return {alias["name"]: alias for alias in document.get("routing", {}).get("alias", [])}


def one(imported, *lines, above=""):
    """A file with one model ``a``, which has these lines."""
    text = f"{above}\nmodels:\n  a:\n    cmd: {SERVER}\n" + "".join(f"    {line}\n" for line in lines)
    status, document, _, shown = imported(text)
    assert status == 0
    return document, shown


# ------------------------------------------------------------------------------------------------------------- variants
def test_one_loaded_model_has_several_names_that_differ_in_parameters(imported):
    document = imported(SOURCES / "variants.yaml")[1]
    assert models(document)["qwen"]["parameters"] == {"strip": ["temperature", "top_p"]}
    assert aliases(document) == {
        "qwen:think": {
            "name": "qwen:think",
            "candidates": ["qwen"],
            "parameters": {"set": {"chat_template_kwargs": {"enable_thinking": True}}},
        },
        "qwen:fast": {
            "name": "qwen:fast",
            "candidates": ["qwen"],
            "parameters": {"set": {"chat_template_kwargs": {"enable_thinking": False}}},
        },
    }


def test_what_is_set_for_the_models_own_name_is_set_for_no_other(imported):
    document, shown = one(
        imported, "filters:", "  setParams: {top_k: 20, seed: 1}",
        "  setParamsByID: {a: {top_k: 1, min_p: 0.5}, 'a high': {top_k: 3}, a-low: {}}",
    )  # fmt: skip
    assert models(document)["a"]["parameters"]["set"] == {"top_k": 1, "seed": 1, "min_p": 0.5}
    found = aliases(document)
    assert found["a high"]["parameters"] == {"set": {"top_k": 3}}
    assert found["a-low"]["parameters"] == {"set": {"top_k": 20}}
    assert "min_p: set for 'a high' too" in shown
    assert "min_p: set for 'a-low' too" in shown


def test_values_of_parameters_keep_their_type_through_macros(imported):
    macros = "macros: {t: 0.6, truth: true, word: high}"
    document, _ = one(
        imported,
        "filters: {setParams: {a: '${t}', b: '${truth}', c: '${word}', d: 'x ${t}', e: ['${truth}']}}",
        above=macros,
    )
    assert models(document)["a"]["parameters"]["set"] == {"a": 0.6, "b": True, "c": "high", "d": "x 0.6", "e": [True]}


def test_the_brokers_own_fields_are_not_set_and_that_is_said(imported):
    _, shown = one(imported, "filters: {stripParams: 'stream, model, top_p', setParams: {stream: true, model: b}}")
    for place in ("setParams.stream", "stripParams: stream is the broker's own"):
        assert f"models.a.filters.{place}" in shown


def test_names_with_blanks_lead_to_their_model(imported):
    document = imported(SOURCES / "groups.yaml")[1]
    found = aliases(document)
    for name in ("Qwen3 Coder 30B A3B", "qwen coder", "qwen:latest"):
        assert found[name]["candidates"] == ["Qwen3-Coder-30B-A3B"]


def test_aliases_are_texts_or_tables_and_the_first_model_keeps_one(imported):
    above = f"models:\n  b: {{cmd: '{SERVER}', aliases: [small]}}\n  a:\n    cmd: {SERVER}\n"
    _, document, _, shown = imported(
        above + "    aliases: [{id: big, name: Big, unlisted: true}, small, b, '', 3, a]\n"
    )
    assert {name: alias["candidates"] for name, alias in aliases(document).items()} == {"big": ["a"], "small": ["b"]}
    assert shown.count("models.a.aliases[") == 6
    assert "the alias b: a model has this name" in shown


# ------------------------------------------------------------------------------------------------------------- settings
@pytest.mark.parametrize(
    "line, field, value",
    [
        ("ttl: 300", "release_vram_after_s", 300.0),
        ("ttl: 0", "release_vram_after_s", None),
        ("concurrencyLimit: 7", "lease_limit", 7),
        ("unloadTimeout: 30", "stop_timeout_s", 30.0),
        ("useModelName: org/m", "served_name", "org/m"),
        ("checkEndpoint: /v1/models", "health_path", "/v1/models"),
        ("capabilities: {context: 4096}", "context_tokens", 4096),
        ("capabilities: {in: [text, image]}", "vision", True),
        ("capabilities: {reranker: true}", "kind", "rerank"),
        ("env: [A=1, 'B=${env.WORKSHOP_KEY}']", "env", {"A": "1", "B": "of-the-environment"}),
        ("name: x", "load_timeout_s", 120.0),
    ],
)
def test_settings_of_a_model(line, field, value, imported):
    document, _ = one(imported, line)
    assert models(document)["a"].get(field) == value


def test_settings_of_all_models(imported):
    above = "globalTTL: 60\nhealthCheckTimeout: 3\nunloadTimeout: 9\nstartPort: 9100\nlogLevel: warn\n"
    document, _ = one(imported, "name: x", above=above)
    found = models(document)["a"]
    assert (found["release_vram_after_s"], found["load_timeout_s"], found["stop_timeout_s"]) == (60, 15, 9)
    assert (document["worker"]["port_min"], document["worker"]["port_max"]) == (9100, 9199)
    assert document["broker"]["log_level"] == document["worker"]["log_level"] == "warning"
    assert "loading takes 7200 s at most" in one(imported, "name: x", above="healthCheckTimeout: 90000")[1]


def test_what_takes_many_at_a_time_is_not_made_to_take_one(imported):
    found = models(
        imported("models:\n  v: {cmd: 'vllm serve org/m --port ${PORT}'}\n  l: {cmd: 'llama-server -m /m'}\n")[1]
    )
    assert found["v"]["lease_limit"] == 10
    assert "lease_limit" not in found["l"]


def test_sound_and_pictures_are_left_out_whole(imported):
    _, document, _, shown = imported(SOURCES / "programs.yaml")
    assert not {"listens", "paints"} & models(document).keys()
    assert "models.listens: 'whisper-server' serves sound or pictures" in shown


@pytest.mark.parametrize(
    "name, why",
    [
        ("container", "'docker' starts a container"),
        ("in-a-shell", "'docker' starts a container"),
        ("pod", "'podman' starts a container"),
        ("compose", "'docker-compose' starts a container"),
        ("on-another", "'ssh' starts it on another machine"),
        ("unset", "the environment variable NOT_SET is not set here"),
        ("background", "goes into the background"),
    ],
)
def test_what_has_no_command_says_why(name, why, imported):
    _, document, _, shown = imported(SOURCES / "programs.yaml")
    assert "command" not in models(document)[name]
    assert f"models.{name}.cmd: {why}" in shown


def test_a_macro_that_is_not_set_hides_no_container(imported):
    shown = imported(SOURCES / "wrappers.yaml")[3]
    assert "HF_TOKEN" not in shown


def test_another_loopback_address_is_the_workers_to_say(imported):
    text = """models:
  script: {cmd: "bash ./serve.sh ${PORT}", proxy: "http://127.0.0.2:${PORT}"}
  plain: {cmd: "llama-server --host 127.0.0.2 --port ${PORT} -m /m/a.gguf", proxy: "http://127.0.0.2:${PORT}"}
"""
    _, document, _, shown = imported(text)
    assert "models.script.proxy: every server is asked at bind_host of [worker]" in shown
    assert "models.plain.proxy: the worker chooses the address, and fills it in" in shown
    assert "127.0.0.2" not in " ".join(models(document)["plain"]["command"])


def test_rerankers_are_what_they_are(imported):
    assert models(imported(SOURCES / "wrappers.yaml")[1])["rerank"]["kind"] == "rerank"
    found = models(imported(SOURCES / "programs.yaml")[1])
    assert (found["vllm-ranks"]["kind"], found["vllm-embeds"]["kind"]) == ("rerank", "embedding")


# ---------------------------------------------------------------------------------------------------------------- cards
def test_each_card_is_a_slot_and_its_models_are_bound_to_it(imported):
    _, document, _, shown = imported(SOURCES / "two_cards.yaml")
    slots = {slot["id"]: slot["budget_mib"] for slot in document["worker"]["slot"]}
    assert slots == {"GPU-61fe9ba0": 24_000, "cuda0-cuda1": 48_000}
    found = models(document)
    assert [found[name]["slots"] for name in ("big", "small", "both")] == [
        ["GPU-61fe9ba0"],
        ["cuda0-cuda1"],
        ["cuda0-cuda1"],
    ]
    assert [found[name]["memory_mib"] for name in ("big", "small", "both")] == [24_000, 48_000, 48_000]
    assert "the cards cuda0, cuda1: are one slot whose models take turns" in shown
    assert found["small"]["env"] == {"CUDA_VISIBLE_DEVICES": "0"}


def test_a_card_by_its_uuid_is_measured_and_needs_no_variable(imported):
    uuid = "GPU-11111111-2222-3333-4444-555555555555"
    first = f"models:\n  a: {{cmd: '{SERVER}', env: [CUDA_VISIBLE_DEVICES={uuid}]}}\n"
    text = f"{first}  b: {{cmd: '{SERVER} -dev CUDA1'}}\n"
    document = imported(text)[1]
    assert document["worker"]["slot"][0] == {"id": uuid, "device_uuid": uuid, "budget_mib": 24_000}
    assert "env" not in models(document)["a"]


def test_what_runs_on_the_cpu_takes_no_card(imported):
    found = models(imported(SOURCES / "cards.yaml")[1])["e"]
    assert (found["memory_mib"], "slots" in found) == (1, False)


# ---------------------------------------------------------------------------------------------------- preloads, peers
def test_the_first_that_is_loaded_at_the_start_is_the_default(imported):
    _, document, _, shown = imported(SOURCES / "groups.yaml")
    assert [name for name, model in models(document).items() if model.get("default")] == ["embedder"]
    assert "hooks.on_startup.preload: nobody: there is no such model" in shown
    assert "hooks.on_startup.preload: Qwen3 Coder 30B A3B: one model is the default" in shown


def test_peers_are_upstreams_whose_keys_stay_where_they_are(imported):
    _, document, text, shown = imported(SOURCES / "peers.yaml")
    found = {upstream["name"]: upstream for upstream in document["routing"]["upstream"]}
    assert set(found) == {"openrouter", "attic", "literal"}
    cloud = found["openrouter"]
    assert (cloud["base_url"], cloud["api_key_env"]) == ("https://openrouter.ai/api/v1", "OPENROUTER_API_KEY")
    assert [model["name"] for model in cloud["model"]] == ["meta-llama/llama-3.1-8b-instruct", "qwen/qwen3-coder"]
    assert cloud["model"][1]["remote_name"] == "qwen/qwen3 coder"
    assert cloud["model"][0]["parameters"] == {
        "strip": ["temperature", "top_p"],
        "set": {"provider": {"data_collection": "deny"}, "transforms": ["middle-out"]},
    }
    assert (found["attic"]["connect_timeout_s"], found["attic"]["inside"]) == (10, True)
    assert "peers.attic: asks for no key, so it is taken for a server of your own" in shown
    assert found["literal"]["api_key_env"] == "KEY_OF_LITERAL"
    assert "sk-literal" not in text + shown
    assert "peers.nowhere: its proxy" in shown


def test_peers_alone_are_enough(imported):
    status, document, _, _ = imported("peers: {p: {proxy: 'http://10.0.0.1', models: [m]}}\n")
    assert (status, "model" in document) == (0, False)
    assert document["routing"]["upstream"][0]["model"] == [{"name": "m"}]


def test_matrix_and_groups_are_told_as_what_they_become(imported):
    shown = imported(SOURCES / "matrix.yaml")[3]
    assert "routing.router.settings.matrix: models are side by side where memory allows" in shown
    assert "routing.router.settings.matrix.evict_costs: what a model costs to load is learned" in shown
    assert "routing.scheduler.settings.fifo.priority" in shown


def test_lists_of_names_show_aliases_and_that_is_said_unless_they_were_shown(imported):
    alias = "aliases: [b]"
    assert "includeAliasesInList: /v1/models lists every name" in one(imported, alias)[1]
    assert "includeAliasesInList" not in one(imported, alias, above="includeAliasesInList: true")[1]
    assert "includeAliasesInList" not in one(imported, "name: x")[1]
