"""A rival's configuration becomes ours, whatever stands in it, and what is missing is said."""

import hashlib
import stat
from pathlib import Path

import pytest

from broker.config.broker_config import load_config as load_broker
from gpu_worker.config import load_config as load_worker
from hotseat.commands.import_ import FAILED, INCOMPLETE, kind_of, main
from hotseat.migration.command_lines.command import size_mib

HERE = Path(__file__).parent
LLAMA_SWAP, LITELLM = HERE / "sources" / "llama_swap" / "workshop.yaml", HERE / "sources" / "litellm" / "household.yaml"
SMALL = "models:\n  a:\n    cmd: llama-server --port ${PORT} -m /m.gguf\n"


def models(document):
    return {model["name"]: model for model in document["model"]}


@pytest.mark.parametrize("file", [LLAMA_SWAP, LITELLM], ids=lambda path: path.stem)
def test_broker_and_worker_take_what_is_printed(file, imported, tmp_path):
    status, _, text, _ = imported(file)
    path = tmp_path / "hotseat.toml"
    path.write_text(text)
    assert status == 0
    assert load_broker(path, {}).models == load_worker(path, {}).models


def test_llama_swap_commands_become_lists_with_our_places_in_them(imported):
    coder = models(imported(LLAMA_SWAP)[1])["coder"]
    assert coder["command"] == [
        "/opt/llama.cpp/llama-server-b7000", "--port", "{port}", "--flash-attn", "on", "--ctx-size", "8192",
        "-m", "{model_path}", "--alias", "{served_name}", "--parallel", "2",
        "--host", "{host}", "--api-key-file", "{api_key_file}",
    ]  # fmt: skip
    assert coder["model_path"] == "/srv/my models/coder-q4.gguf"
    assert (coder["served_name"], coder["lease_limit"]) == ("workshop/coder", 2)
    assert coder["env"] == {"CUDA_VISIBLE_DEVICES": "0"}
    assert (coder["release_vram_after_s"], coder["load_timeout_s"], coder["default"]) == (60, 500, True)


def test_llama_swap_settings_of_one_model_win(imported):
    embed = models(imported(LLAMA_SWAP)[1])["embed-small"]
    assert embed["command"][embed["command"].index("--ctx-size") + 1] == "512"
    assert (embed["kind"], embed["lease_limit"]) == ("embedding", 8)
    assert "release_vram_after_s" not in embed


def test_what_the_worker_cannot_start_has_no_command(imported):
    found = models(imported(LLAMA_SWAP)[1])
    assert "command" not in found["boxed"]
    assert found["vllm"]["command"][:3] == ["vllm", "serve", "org/model"]


def test_clients_keep_their_keys_and_the_file_has_only_hashes(imported):
    _, document, text, shown = imported(LLAMA_SWAP)
    hashes = [hashlib.sha256(key).hexdigest() for key in (b"sk-workshop-1", b"of-the-environment")]
    assert [key["sha256"] for key in document["key"]] == hashes
    for secret in ("sk-workshop-1", "of-the-environment", "sk-old", "sk-secret-of-the-attic"):
        assert secret not in text + shown


def test_what_llama_swap_has_and_we_do_not_is_listed_in_the_file_and_on_stderr(imported):
    _, _, text, shown = imported(LLAMA_SWAP)
    left = (
        "models.coder.env[1]", "models.embed small.cmd", "models.embed small.checkEndpoint",
        "models.embed small.unlisted", "models.boxed.cmd", "models.boxed.cmdStop", "models.boxed.proxy",
        "peers.attic.apiKey", "hooks.on_startup.preload: vllm", "sendLoadingState", "metricsMaxInMemory",
        "futureSetting",
    )  # fmt: skip
    changed = (
        "models.embed small", "peers.attic", "name, description", "the environment", "groups.pair",
        "hooks.on_startup.preload: coder", "includeAliasesInList",
    )  # fmt: skip
    lost, other = shown.split("carried over, but not as it was:\n")
    assert [line.split(": ")[0] for line in lost.splitlines() if line.startswith("  - ")] == [
        f"  - {setting.split(': ')[0]}" for setting in left
    ]
    assert [line.split(": ")[0] for line in other.splitlines()] == [
        f"  - {setting.split(': ')[0]}" for setting in changed
    ]
    assert [line for line in text.splitlines() if line.startswith("# - ")] == [
        f"# {line.strip()}" for line in shown.splitlines() if line.startswith("  - ")
    ]


def test_litellm_servers_at_home_become_models_and_clouds_upstreams(imported):
    _, document, text, shown = imported(LITELLM)
    found = models(document)
    assert set(found) == {"llama", "embeddings", "phi"}
    assert found["llama"]["served_name"] == "llama3.1:8b"
    assert (found["llama"]["lease_limit"], found["llama"]["fallbacks"]) == (3, ["phi"])
    assert found["embeddings"]["kind"] == "embedding"
    (openai,) = document["routing"]["upstream"]
    assert (openai["name"], openai["api_key_env"]) == ("openai", "KEY_OF_OPENAI")
    assert openai["model"] == [{"name": "cheap", "remote_name": "gpt-4o-mini"}]
    assert document["key"][0]["sha256"] == hashlib.sha256(b"sk-household").hexdigest()
    for secret in ("sk-household", "sk-gpu-box", "sk-cloud-secret", "hush-hush", "password"):
        assert secret not in text + shown
    for left in (
        "model_list[4] (gpt-4o): at example.openai.azure.com: an Azure deployment",
        "model_list[6] (*): a wildcard",
        "gpt-4: stands for no model here",
        "llama → gpt-4o: there is no such model",
        "set KEY_OF_OPENAI where the broker runs",
        "prices of cheap",
    ):
        assert left in shown


@pytest.mark.parametrize(
    "address, home",
    [
        ("http://127.0.0.1:8000/v1", True),
        ("http://10.1.2.3:8000/v1", True),
        ("http://100.64.0.9/v1", True),
        ("http://[fd00::1]:8000/v1", True),
        ("http://gpu-box:8000", True),
        ("http://gpu.local:8000", True),
        ("https://api.example.com/v1", False),
        ("http://8.8.8.8/v1", False),
        ("http://[2606:4700::1]/v1", False),
        ("http://10.1.2.3.example.com/v1", False),
        ("http://[broken", False),
        ("", False),
    ],
)
def test_home_is_where_the_address_is_private(address, home, imported):
    entry = "  - model_name: {}\n    litellm_params: {{model: {}, api_base: {}}}\n"
    text = "model_list:\n" + entry.format("a", "openai/x", f'"{address}"') + entry.format("b", "ollama/x", '""')
    assert set(models(imported(text)[1])) == ({"a", "b"} if home else {"b"})


def test_a_source_without_keys_serves_this_machine_only(imported):
    document = imported(SMALL)[1]
    assert document["broker"] == {"anonymous": True}
    assert "key" not in document


@pytest.mark.parametrize(
    "text",
    [
        SMALL + "apiKeys: ['${env.NOT_SET_HERE}']\n",
        SMALL + "apiKeys: [[]]\n",
        (
            "model_list: [{model_name: a, litellm_params: {model: ollama/a}}]\n"
            "general_settings: {master_key: os.environ/NOT_SET}\n"
        ),
    ],
)
def test_keys_that_cannot_be_read_never_open_the_broker(text, tmp_path, capsys):
    (tmp_path / "c.yaml").write_text(text)
    assert main([str(tmp_path / "c.yaml")]) == FAILED
    shown = capsys.readouterr()
    assert "asks for API keys and none can be read" in shown.err
    assert shown.out == ""


def test_memory_is_estimated_from_the_files_that_are_there(imported, tmp_path):
    weights = tmp_path / "w-00001-of-00002.gguf"
    for part in (weights, tmp_path / "w-00002-of-00002.gguf"):
        with part.open("wb") as file:
            file.truncate(500 * 2**20)
    text = f"models:\n  a: {{cmd: 'llama-server -m {weights}'}}\n  b: {{cmd: 'llama-server -m /nowhere'}}\n"
    found = models(imported(text, "--budget-mib", "9000")[1])
    assert (found["a"]["memory_mib"], found["b"]["memory_mib"]) == (1612, 9000)
    assert size_mib([]) is None


def test_strict_tells_by_its_status(imported):
    assert imported(SMALL, "--strict")[0] == 0
    assert imported(SMALL + "groups: {g: {}}\n", "--strict")[0] == 0  # is not as it was, but was carried over
    assert imported(SMALL + "ui: {a: 1}\n", "--strict")[0] == INCOMPLETE
    assert imported(SMALL + "ui: {a: 1}\n")[0] == 0


def test_the_kind_can_be_forced_and_is_known_otherwise(capsys):
    assert kind_of({"models": {}}) == "llama-swap"
    assert kind_of({"model_list": [], "models": {}}) == "litellm"
    assert kind_of({"peers": {}}) == "llama-swap"
    assert kind_of({"general_settings": {"store_model_in_db": True}}) == "litellm"
    assert main([str(LLAMA_SWAP), "--from", "litellm"]) == FAILED
    assert "model_list" in capsys.readouterr().err


def test_output_is_a_new_file_for_this_user_only(tmp_path, capsys):
    target = tmp_path / "hotseat.toml"
    assert main([str(LLAMA_SWAP), "--output", str(target)]) == 0
    assert capsys.readouterr().out == ""
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert load_worker(target, {}).models
    before = target.read_text()
    assert main([str(LITELLM), "--output", str(target)]) == FAILED
    assert "File exists" in capsys.readouterr().err
    assert target.read_text() == before


@pytest.mark.parametrize("path", ["nowhere.yaml", "."])
def test_a_file_that_cannot_be_read_is_said(path, tmp_path, capsys):
    assert main([str(tmp_path / path)]) == FAILED
    assert capsys.readouterr().err.startswith(f"hotseat import: {tmp_path}")


@pytest.mark.parametrize("argv", [[], ["x.yaml", "--from", "ollama"], ["x.yaml", "--budget-mib", "0"]])
def test_usage_errors_have_their_own_status(argv, capsys):
    with pytest.raises(SystemExit) as ended:
        main(argv)
    assert ended.value.code == 2
    assert "usage" in capsys.readouterr().err
