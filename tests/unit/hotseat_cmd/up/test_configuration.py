"""The file `hotseat up` writes is one the parts accept."""

import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from broker.config.broker_config import load_config as load_broker
from gpu_worker.config import load_config as load_worker
from hotseat.demo.models import DemoModel
from hotseat.up.command import parser
from hotseat.up.configuration import BUDGET_MIB, UpConfig, toml_string


@pytest.fixture
def config(tmp_path: Path) -> UpConfig:
    return UpConfig(
        store_url="unix:///run/some where/valkey.sock",
        port=4687,
        worker_state_dir=tmp_path / "worker",
        models=[
            DemoModel(name="gemma-270m", path=tmp_path / 'a "quoted" name.gguf', memory_mib=450, load_s=2.0),
            DemoModel(name="gemma-270m-f16", path=tmp_path / "b.gguf", memory_mib=720, load_s=3.0),
        ],
        server_argv=["/usr/bin/python3", "-m", "hotseat.llama_server"],
        threads=2,
    )


def test_broker_and_worker_accept_it(config: UpConfig, tmp_path: Path) -> None:
    file = config.write(tmp_path / "hotseat.toml")
    broker, worker = load_broker(file, {}), load_worker(file, {})
    assert broker.broker.anonymous
    assert broker.broker.is_loopback
    assert worker.store.url == config.store_url
    assert [model.name for model in worker.models] == ["gemma-270m", "gemma-270m-f16"]
    assert worker.models[0].command[:3] == ("/usr/bin/python3", "-m", "hotseat.llama_server")
    assert worker.models[0].model_path == config.models[0].path


def test_one_model_fits_and_both_do_not(config: UpConfig) -> None:
    sizes = [model.memory_mib for model in config.models]
    assert max(sizes) <= BUDGET_MIB < sum(sizes)


@pytest.mark.parametrize("tokens", [16_384, 32_768])
def test_longer_contexts_cost_memory_and_still_one_model_fits(config: UpConfig, tmp_path: Path, tokens: int) -> None:
    file = replace(config, context_tokens=tokens).write(tmp_path / "hotseat.toml")
    worker = load_worker(file, {})
    sizes = [model.memory_mib for model in worker.models]
    budget_mib = worker.worker.slot[0].budget_mib
    assert all(new > old.memory_mib for new, old in zip(sizes, config.models, strict=True))
    assert max(sizes) <= budget_mib < sum(sizes)
    command = worker.models[0].command
    assert int(command[command.index("--ctx-size") + 1]) == tokens * int(command[command.index("--parallel") + 1])


@pytest.mark.parametrize("text", ["0", "255", "40000", "many"])
def test_contexts_the_models_cannot_have_are_refused(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parser().parse_args(["--context-tokens", text])
    assert "--context-tokens" in capsys.readouterr().err
    assert parser().parse_args(["--context-tokens", "16384"]).context_tokens == 16_384


def test_it_is_for_this_user_only(config: UpConfig, tmp_path: Path) -> None:
    assert config.write(tmp_path / "hotseat.toml").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("text", ['a "b" \\ c', "tab\tnew\nline", "naïve 🦙 \x7f"])
def test_strings_survive_toml(text: str) -> None:
    assert tomllib.loads(f"x = {toml_string(text)}")["x"] == text
