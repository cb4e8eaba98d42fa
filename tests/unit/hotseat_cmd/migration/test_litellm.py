"""What LiteLLM's settings mean, in ours."""

import hashlib
import json
from pathlib import Path

import pytest

from hotseat.commands.import_ import FAILED, main

SOURCES = Path(__file__).parent / "sources" / "litellm"
HOME = "{model: ollama/m}"
CLOUD = "{model: groq/m, api_key: os.environ/GROQ_API_KEY}"


def models(document):
    return {model["name"]: model for model in document.get("model", [])}


def aliases(document):
    return {alias["name"]: alias for alias in document.get("routing", {}).get("alias", [])}


def upstreams(document):
    return {upstream["name"]: upstream for upstream in document.get("routing", {}).get("upstream", [])}


def remote(document):
    return {model["name"]: model for upstream in upstreams(document).values() for model in upstream["model"]}


def listed(entries, more=""):
    """A file with these entries: name to parameters, or to parameters and information."""
    lines = ["model_list:"]
    for name, said in entries:
        parameters, info = said if isinstance(said, tuple) else (said, "{}")
        lines.append(f"  - {{model_name: {json.dumps(name)}, litellm_params: {parameters}, model_info: {info}}}")
    return "\n".join(lines) + "\n" + more


# ------------------------------------------------------------------------------------------------------------ variables
def test_variables_are_asked_for_in_every_field(imported, monkeypatch):
    for name, value in {
        "T_NAME": "everything", "T_MODEL": "some/model", "T_BASE": "http://10.0.0.9:8000/v1", "T_KEY": "sk-secret",
        "T_PROVIDER": "hosted_vllm", "T_COUNT": "6", "T_TEMPERATURE": "0.25", "T_MODE": "chat", "T_CONTEXT": "40960",
        "T_TRUE": "true", "T_SECONDS": "300", "T_BUDGET": "12.5",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    _, document, text, shown = imported(SOURCES / "everywhere.yaml")
    model = models(document)["everything"]
    assert (model["served_name"], model["lease_limit"], model["context_tokens"]) == ("some/model", 6, 40_960)
    assert (model["vision"], model["parameters"]) == (True, {"default": {"temperature": 0.25}})
    assert document["routing"]["month_budget"] == 12.5
    assert document["gateway"]["first_byte_s"] == 300
    assert "model_list[1]: T_UNSET, T_UNSET_TOO: not set in the environment here" in shown
    assert "model_list[0].litellm_params.rpm: the environment variable T_UNSET is not set here" in shown
    assert "os.environ" not in text
    assert "sk-secret" not in text + shown


def test_all_that_are_missing_are_named_at_once(capsys):
    assert main([str(SOURCES / "variables.yaml")]) == FAILED
    assert "set ASSISTANT_MODEL, HAIKU_TIER, LOCAL_URL as LiteLLM has them" in capsys.readouterr().err


def test_names_of_clients_are_those_that_variables_have(imported, monkeypatch):
    monkeypatch.setenv("HAIKU_TIER", "claude-haiku-4-5")
    monkeypatch.setenv("LOCAL_URL", "http://10.0.0.5:8080/v1")
    monkeypatch.setenv("ASSISTANT_MODEL", "openai/qwen3")
    document = imported(SOURCES / "variables.yaml")[1]
    assert {name: model["served_name"] for name, model in models(document).items()} == {
        "claude-haiku-4-5": "devstral",
        "assistant": "qwen3",
    }


# --------------------------------------------------------------------------------------------------------------- clouds
@pytest.mark.parametrize(
    "parameters, base_url, variable, remote_name",
    [
        ("{model: gpt-5}", "https://api.openai.com/v1", "OPENAI_API_KEY", "gpt-5"),
        ("{model: openai/gpt-5, api_key: os.environ/MINE}", "https://api.openai.com/v1", "MINE", "gpt-5"),
        ("{model: groq/qwen3}", "https://api.groq.com/openai/v1", "GROQ_API_KEY", "qwen3"),
        ("{model: openrouter/qwen/qwen3}", "https://openrouter.ai/api/v1", "OPENROUTER_API_KEY", "qwen/qwen3"),
        ("{model: fireworks_ai/q}", None, "FIREWORKS_AI_API_KEY", "accounts/fireworks/models/q"),
        ("{model: q, custom_llm_provider: deepseek}", "https://api.deepseek.com/v1", "DEEPSEEK_API_KEY", "q"),
        (
            "{model: openai/q, api_base: 'https://llm.example.com/v1/'}",
            "https://llm.example.com/v1",
            "OPENAI_API_KEY",
            "q",
        ),
        (
            "{model: openai/q, api_base: 'https://llm.example.com/v1', api_key: none}",
            None,
            "KEY_OF_LLM_EXAMPLE_COM",
            "q",
        ),
    ],
)
def test_a_cloud_is_an_upstream_with_the_key_where_it_was(parameters, base_url, variable, remote_name, imported):
    document = imported(listed([("mine", parameters)]))[1]
    (upstream,) = upstreams(document).values()
    assert base_url is None or upstream["base_url"] == base_url
    assert upstream.get("api_key_env") == variable
    assert upstream["model"][0]["remote_name"] == remote_name
    assert upstream["model"][0]["name"] == "mine"


@pytest.mark.parametrize(
    "parameters, base_url",
    [
        ("{model: hosted_vllm/q, api_base: 'https://gpu.example.com/v1', api_key: os.environ/K}", "/v1"),
        ("{model: lm_studio/q, api_base: 'https://gpu.example.com/v1', api_key: os.environ/K}", "/v1"),
        ("{model: ollama/q, api_base: 'https://gpu.example.com', api_key: os.environ/K}", "/v1"),
        ("{model: ollama_chat/q, api_base: 'https://gpu.example.com/ollama/v1/', api_key: os.environ/K}", "/ollama/v1"),
    ],
)
def test_a_server_of_the_kind_that_people_run_is_an_upstream_where_it_is_far_away(parameters, base_url, imported):
    document = imported(listed([("mine", parameters)]))[1]
    (upstream,) = upstreams(document).values()
    assert (upstream["base_url"], upstream["api_key_env"]) == (f"https://gpu.example.com{base_url}", "K")
    assert (upstream["model"][0]["name"], upstream["model"][0]["remote_name"]) == ("mine", "q")


@pytest.mark.parametrize(
    "said, remote_name, why",
    [
        ("{model: openai/responses/o3}", "o3", "chats are not turned into /v1/responses here"),
        (("{model: openai/o3}", "{mode: responses}"), "o3", "chats are not turned into /v1/responses here"),
        ("{model: text-completion-openai/davinci}", "davinci", "chats are not turned into /v1/completions here"),
        ("{model: openai/responses/o, api_base: 'http://box/v1'}", "o", "chats are not turned into /v1/responses here"),
    ],
)
def test_what_was_asked_at_another_address_than_the_clients_is_told(said, remote_name, why, imported):
    _, document, _, shown = imported(listed([("mine", said)]))
    found = {**models(document), **remote(document)}["mine"]
    assert found.get("remote_name", found.get("served_name")) == remote_name
    assert f"model_list[0] (mine): {why}" in shown


def test_parameters_that_anthropics_own_form_does_not_have_are_not_sent_there(imported):
    parameters = "{model: claude-sonnet-4-5, temperature: 0.2, reasoning_effort: high, stop: [x], seed: 3}"
    _, document, _, shown = imported(listed([("claude", parameters)]))
    compatible, own = (remote(document)[f"{name}/claude-sonnet-4-5"] for name in ("anthropic", "anthropic-messages"))
    assert compatible["parameters"]["default"].keys() == {"temperature", "reasoning_effort", "stop", "seed"}
    assert own["parameters"] == {"default": {"temperature": 0.2}}
    assert "model_list[0].litellm_params.reasoning_effort: /v1/messages has no such parameter" in shown


def test_only_a_server_of_ones_own_may_ask_for_no_key(imported):
    entries = [("a", "{model: openai/q, api_base: 'https://llm.example.com/v1', api_key: none}")]
    entries += [("b", "{model: groq/q, api_base: 'http://10.0.0.5/v1', api_key: none}")]
    _, document, _, shown = imported(listed(entries))
    far, near = upstreams(document).values()
    assert (far.get("inside"), near["inside"], "api_key_env" in near) == (None, True, False)
    assert "set KEY_OF_LLM_EXAMPLE_COM to any text where the broker runs" in shown
    assert "model_list[1] (b): asks for no key, so it is taken for a server of your own" in shown
    assert "prices of b" not in shown


def test_anthropic_is_asked_in_both_its_forms(imported):
    document = imported(listed([("claude", "{model: claude-sonnet-4-5}")]))[1]
    assert [one.get("protocol", "openai") for one in upstreams(document).values()] == ["openai", "anthropic"]
    assert aliases(document)["claude"]["candidates"] == [
        "anthropic/claude-sonnet-4-5", "anthropic-messages/claude-sonnet-4-5",
    ]  # fmt: skip


def test_entries_with_one_key_and_address_share_an_upstream(imported):
    groq = "{model: groq/%s, api_key: %s}"
    document = imported(
        listed([("a", groq % ("a", "os.environ/K")), ("b", groq % ("b", "os.environ/K")), ("c", groq % ("c", "sk-1"))])
    )[1]
    found = upstreams(document)
    assert {name: [model["name"] for model in one["model"]] for name, one in found.items()} == {
        "groq": ["a", "b"],
        "groq-2": ["c"],
    }
    assert found["groq-2"]["api_key_env"] == "KEY_OF_GROQ_2"


def test_prices_are_by_the_million_and_what_is_not_known_is_said(imported, tmp_path):
    entry = [("claude", "{model: anthropic/claude-x}"), ("gpt", "{model: gpt-9}")]
    _, document, _, shown = imported(listed(entry))
    assert "prices of gpt: are not in the file" in shown
    table = {"gpt-9": {"input_cost_per_token": 2e-7, "output_cost_per_token": 8e-7, "max_input_tokens": 400_000}}
    (tmp_path / "prices.json").write_text(json.dumps(table))
    _, document, _, shown = imported(listed(entry), "--prices", str(tmp_path / "prices.json"))
    gpt = remote(document)["gpt"]
    assert (gpt["prompt_price"], gpt["reply_price"], gpt["context_tokens"]) == (0.2, 0.8, 400_000)
    assert "prices of gpt" not in shown
    priced = imported(SOURCES / "clouds.yaml")[1]
    claude = remote(priced)["anthropic/claude-sonnet-4-5"]
    assert [claude[name] for name in ("prompt_price", "reply_price", "cached_price")] == [3.0, 15.0, 0.3]
    assert (claude["context_tokens"], claude["vision"]) == (200_000, True)


@pytest.mark.parametrize("text", ["[]", "{", "x" * 10])
def test_prices_that_are_none_are_said(text, tmp_path, capsys):
    (tmp_path / "p.json").write_text(text)
    (tmp_path / "c.yaml").write_text(listed([("a", HOME)]))
    assert main([str(tmp_path / "c.yaml"), "--prices", str(tmp_path / "p.json")]) == FAILED
    assert main([str(tmp_path / "c.yaml"), "--prices", str(tmp_path / "none.json")]) == FAILED
    assert str(tmp_path / "p.json") in capsys.readouterr().err


@pytest.mark.parametrize(
    "name, why",
    [
        ("azure-one", "an Azure deployment is asked by its own address"),
        ("bedrock-one", "requests to Bedrock are signed"),
        ("vertex-one", "Vertex AI wants a token"),
        ("dall-e", "serves sound, pictures"),
        ("listens", "serves sound, pictures"),
        ("bge", "a reranker in a cloud"),
        ("claude *", "a wildcard"),
    ],
)
def test_what_cannot_be_an_upstream_says_why(name, why, imported, monkeypatch):
    monkeypatch.setenv("AZURE_API_BASE", "https://example.openai.azure.com")
    _, document, _, shown = imported(SOURCES / "clouds.yaml")
    line = next(line for line in shown.splitlines() if f"({name})" in line and why in line)
    assert line.startswith("  - model_list[")
    assert name not in {*models(document), *remote(document), *aliases(document)}


# ---------------------------------------------------------------------------------------------------- names, fallbacks
def test_a_name_with_several_entries_is_an_alias_in_their_order(imported):
    document = imported(SOURCES / "fallbacks.yaml")[1]
    assert aliases(document)["chat"] == {
        "name": "chat",
        "candidates": ["groq/qwen3-32b", "qwen3-32b", "coder", "small"],
        "prefer": "listed",
    }


def test_one_server_under_several_names_is_one_model_that_is_loaded_once(imported):
    other = "{model: openai/m, api_base: 'http://localhost:11434/v1/', api_key: none}"
    same = "{model: openai/m, api_base: 'http://LOCALHOST:11434'}"
    _, document, _, shown = imported(listed([("a", other), ("b", same)]))
    assert models(document).keys() == {"m"}
    assert {name: one["candidates"] for name, one in aliases(document).items()} == {"a": ["m"], "b": ["m"]}
    assert "model_list[1] (b): is the same server as model_list[0] (a), so one model stands behind both names" in shown


def test_names_of_one_server_keep_what_each_says_of_parameters(imported):
    entries = [
        ("warm", "{model: ollama/m, temperature: 0.9}"),
        ("cold", "{model: ollama_chat/m, temperature: 0, seed: 1}"),
        ("far", "{model: ollama/m, temperature: 0.5}"),
        ("cloud", CLOUD),
    ]
    document = imported(listed(entries, "litellm_settings: {fallbacks: [{far: [cloud]}]}\n"))[1]
    assert models(document).keys() == {"m"}
    assert "parameters" not in models(document)["m"]
    found = aliases(document)
    assert found["warm"]["parameters"] == {"default": {"temperature": 0.9}}
    assert found["cold"]["parameters"] == {"default": {"temperature": 0, "seed": 1}}
    inner, outside = found["far"]["candidates"]
    assert ("parameters" in found["far"], outside) == (False, "cloud")
    assert found[inner] == {"name": inner, "candidates": ["m"], "parameters": {"default": {"temperature": 0.5}}}


def test_what_two_names_of_one_server_say_differently_of_it_is_told(imported):
    entries = [
        ("a", "{model: ollama/m, max_parallel_requests: 2}"),
        ("b", ("{model: ollama/m, max_parallel_requests: 8}", "{max_input_tokens: 4096}")),
    ]
    _, document, _, shown = imported(listed(entries))
    assert (models(document)["m"]["lease_limit"], models(document)["m"]["context_tokens"]) == (2, 4096)
    assert "model_list[1] (b): lease_limit: is the model's, as model_list[0] (a) says" in shown


def test_two_models_of_ones_own_under_one_name_are_both_its_candidates(imported):
    _, document, _, shown = imported(listed([("mix", "{model: ollama/a}"), ("mix", "{model: ollama/b}")]))
    assert models(document).keys() == {"a", "b"}
    assert aliases(document)["mix"] == {"name": "mix", "candidates": ["a", "b"], "prefer": "listed"}
    assert "the name mix: requests were spread; now the first that can serve does" in shown


def test_a_second_server_with_the_same_model_is_another_workers(imported):
    entries = [("a", f"{{model: ollama/m, api_base: 'http://10.0.0.{number}:11434'}}") for number in (1, 2)]
    _, document, _, shown = imported(listed(entries))
    assert models(document).keys() == {"a"}
    assert "model_list[1] (a): a second server under the same name" in shown


def test_fallbacks_at_home_stay_the_models_own(imported):
    document = imported(
        listed([("a", HOME), ("b", "{model: ollama/b}")], "router_settings: {fallbacks: [{a: [b]}]}\n")
    )[1]
    assert models(document)["a"]["fallbacks"] == ["b"]
    assert aliases(document) == {}


def test_what_falls_back_to_a_cloud_is_an_alias_for_a_models_own_name_never_goes_out(imported):
    document = imported(listed([("a", HOME), ("b", CLOUD)], "litellm_settings: {fallbacks: [{a: [b]}]}\n"))[1]
    assert aliases(document)["a"]["candidates"] == ["m", "b"]
    assert set(models(document)) == {"m"}


def test_default_fallbacks_are_of_names_that_have_none(imported):
    settings = "litellm_settings: {default_fallbacks: [c], fallbacks: [{a: [b]}]}\n"
    entries = [(name, f"{{model: ollama/{name}}}") for name in ("a", "b", "c")]
    found = models(imported(listed(entries, settings))[1])
    assert {name: model.get("fallbacks") for name, model in found.items()} == {"a": ["b"], "b": ["c"], "c": None}


def test_fallbacks_of_a_full_context_are_told_as_what_they_become(imported):
    settings = "router_settings: {context_window_fallbacks: [{a: [b]}]}\n"
    _, document, _, shown = imported(listed([("a", HOME), ("b", "{model: ollama/b}")], settings))
    assert models(document)["a"]["fallbacks"] == ["b"]
    assert "a → b: also where a is down" in shown


def test_other_names_lead_where_they_led(imported):
    _, document, _, shown = imported(SOURCES / "fallbacks.yaml")
    found = aliases(document)
    assert (found["gpt-4"]["candidates"], found["gpt-3.5-turbo"]["candidates"]) == (["chat"], ["small"])
    assert "model_group_alias.gpt-3.5-turbo.hidden: /v1/models lists every name" in shown
    assert "model_group_alias.nothing: stands for no model here" in shown
    assert "gone: there is no such model" in shown


# ------------------------------------------------------------------------------------------------------------- settings
@pytest.mark.parametrize(
    "settings, fields",
    [
        ("{max_budget: 5, budget_duration: 1d}", {"day_budget": 5}),
        ("{max_budget: 5, budget_duration: 24h}", {"day_budget": 5}),
        ("{max_budget: 5, budget_duration: 30d}", {"month_budget": 5}),
        ("{max_budget: 5, budget_duration: 1mo}", {"month_budget": 5}),
        ("{max_budget: 5, budget_duration: 7d}", {}),
        ("{max_budget: 5}", {}),
    ],
)
def test_budgets_are_of_days_and_months(settings, fields, imported):
    _, document, _, shown = imported(listed([("a", CLOUD)], f"litellm_settings: {settings}\n"))
    found = {name: value for name, value in document["routing"].items() if name.endswith("budget")}
    assert found == fields
    assert ("litellm_settings.max_budget: budgets are of a UTC day or month" in shown) == (not fields)


def test_retries_and_time_outs_are_the_upstreams(imported):
    settings = "litellm_settings: {num_retries: 2, request_timeout: 60}\n"
    mine = "{model: gpt-5, timeout: 30, stream_timeout: 10s, max_retries: 0}"
    document = imported(listed([("a", CLOUD), ("b", mine)], settings))[1]
    fields = ("tries", "first_byte_timeout_s", "idle_timeout_s")
    assert [upstreams(document)["groq"][name] for name in fields] == [3, 60, 60]
    assert [upstreams(document)["openai"][name] for name in fields] == [1, 30, 10]
    _, document, _, shown = imported(listed([("a", CLOUD)], "router_settings: {num_retries: 9}\n"))
    assert upstreams(document)["groq"]["tries"] == 5
    assert "router_settings.num_retries: an upstream is asked 5 times at most" in shown


@pytest.mark.parametrize("entries", [[("a", HOME)], [("a", HOME), ("b", CLOUD)]])
def test_what_is_of_upstreams_alone_is_told_where_there_are_models_at_home(entries, imported):
    _, _, _, shown = imported(listed(entries, "litellm_settings: {num_retries: 3, stream_timeout: 45}\n"))
    assert "litellm_settings.num_retries: at home a break before the first byte is tried again once" in shown
    assert "litellm_settings.stream_timeout: at home stall_s of [gateway] says how long an answer may pause" in shown


def test_retries_that_are_said_twice_are_told(imported):
    settings = "litellm_settings: {num_retries: 1}\nrouter_settings: {num_retries: 3}\n"
    _, document, _, shown = imported(listed([("a", CLOUD)], settings))
    assert upstreams(document)["groq"]["tries"] == 4
    assert "router_settings.num_retries: 4 tries count, not the 2 that stand elsewhere" in shown


def test_parts_of_parameters_cannot_be_dropped_and_that_is_said(imported):
    parameters = "{model: groq/m, additional_drop_params: [seed, 'tools[*].strict', response_format.strict]}"
    _, document, _, shown = imported(listed([("a", parameters)]))
    assert remote(document)["a"]["parameters"] == {"strip": ["seed"]}
    for part in ("tools[*].strict", "response_format.strict"):
        assert f"additional_drop_params: {part}: parameters are left out as a whole" in shown


def test_a_time_out_at_home_is_the_gateways(imported):
    _, document, _, shown = imported(listed([("a", HOME)], "router_settings: {timeout: 120}\n"))
    assert document["gateway"]["first_byte_s"] == 120
    assert "router_settings.timeout: at home it counts from the lease on" in shown


def test_parameters_of_an_entry_are_defaults_of_its_model(imported):
    more = "extra_body: {service_tier: flex}, additional_drop_params: [top_p], max_tokens: 5"
    entry = f"{{model: gpt-5, temperature: 0, {more}}}"
    found = remote(imported(listed([("a", entry)]))[1])["a"]
    assert found["parameters"] == {
        "default": {"temperature": 0, "max_tokens": 5, "service_tier": "flex"},
        "strip": ["top_p"],
    }


@pytest.mark.parametrize(
    "parameters, info, kind",
    [
        ("{model: openai/text-embedding-3-small}", "{}", "embedding"),
        ("{model: ollama/nomic-embed-text}", "{}", "embedding"),
        ("{model: ollama/x}", "{mode: embedding}", "embedding"),
        ("{model: infinity/x, api_base: 'http://10.0.0.1'}", "{mode: rerank}", "rerank"),
        ("{model: hosted_vllm/bge-reranker-v2-m3}", "{}", "rerank"),
        ("{model: ollama/x}", "{mode: completion}", "completion"),
        ("{model: ollama/x}", "{mode: chat}", None),
    ],
)
def test_a_model_is_what_it_is(parameters, info, kind, imported):
    _, document, _, shown = imported(listed([("a", (parameters, info))]))
    assert {**models(document), **remote(document)}["a"].get("kind") == kind
    assert ("by its name" in shown) == ("mode" not in info)


def test_what_is_known_of_a_model_at_home_is_kept(imported):
    found = models(imported(SOURCES / "fallbacks.yaml")[1])
    coder = found["coder"]
    assert (coder["context_tokens"], coder["vision"], coder["lease_limit"]) == (131_072, False, 4)
    assert found["vectors"]["context_tokens"] == 2048
    assert (found["small"]["release_vram_after_s"], found["small"]["context_tokens"]) == (600, 8192)


def test_the_order_of_entries_is_kept_where_it_is_said(imported):
    entries = [
        ("a", "{model: groq/late, order: 2}"),
        ("a", "{model: groq/soon, order: 1}"),
        ("a", "{model: groq/last}"),
    ]
    document = imported(listed(entries))[1]
    assert aliases(document)["a"]["candidates"] == ["groq/soon", "groq/late", "groq/last"]


def test_nothing_falls_back_to_another_kind(imported):
    settings = "litellm_settings: {default_fallbacks: [a]}\n"
    _, document, _, shown = imported(listed([("a", HOME), ("e", ("{model: ollama/e}", "{mode: embedding}"))], settings))
    assert "fallbacks" not in models(document)["e"]
    assert "e → a: is of another kind" in shown


def test_the_master_key_stays_valid_and_opens_what_it_opened(imported):
    _, document, text, shown = imported(SOURCES / "clouds.yaml")
    assert document["key"] == [
        {"name": "litellm-master", "sha256": hashlib.sha256(b"sk-1234-household").hexdigest(), "scopes": ["admin"]}
    ]
    assert "sk-1234-household" not in text + shown


def test_models_in_a_database_are_not_there_and_that_is_said(tmp_path, capsys):
    (tmp_path / "c.yaml").write_text("model_list: []\ngeneral_settings: {store_model_in_db: true}\n")
    assert main([str(tmp_path / "c.yaml")]) == FAILED
    assert "those in its database cannot be read" in capsys.readouterr().err
