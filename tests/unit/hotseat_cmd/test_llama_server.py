"""The command line of llama-server, carried over to the wheel's parameters."""

import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from hotseat import llama_server


def parsed(*argv: str) -> SimpleNamespace:
    blank = SimpleNamespace(model=SimpleNamespace(), cpuparams=SimpleNamespace(), cpuparams_batch=SimpleNamespace())
    return llama_server.parameters(llama_server.parser().parse_args(argv), blank)


def test_arguments_reach_the_server() -> None:
    params = parsed("-m", "a.gguf", "--alias", "a", "--port", "9", "-c", "512", "-np", "2", "-t", "3", "--metrics")
    assert (params.model.path, params.model_alias, params.port) == ("a.gguf", {"a"}, 9)
    assert (params.n_ctx, params.n_parallel, params.cpuparams.n_threads) == (512, 2, 3)
    assert params.endpoint_metrics


def test_an_answer_has_a_form_and_an_end(tmp_path: Path) -> None:
    template = tmp_path / "chat.jinja"
    template.write_text("Q: {{ messages }}\n")
    params = parsed("-m", "a", "--jinja", "--chat-template-file", str(template), "-n", "9", "-r", "\nQ:", "-r", "\nA:")
    assert params.chat_template == "Q: {{ messages }}\n"
    assert (params.n_predict, params.antiprompt) == (9, ["\nQ:", "\nA:"])
    assert not vars(parsed("-m", "a")).keys() & {"chat_template", "n_predict", "antiprompt"}, "else as the server says"


def test_it_listens_on_loopback_unless_told_otherwise() -> None:
    assert parsed("-m", "a.gguf").hostnames == ["127.0.0.1"]


def test_keys_come_from_the_file_and_the_command_line(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("one\n\n two \n")
    assert parsed("-m", "a.gguf", "--api-key", "zero", "--api-key-file", str(keys)).api_keys == ["zero", "one", "two"]


def test_key_comes_from_the_environment_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLAMA_API_KEY", "secret")
    assert parsed("-m", "a.gguf").api_keys == ["secret"]


def test_the_wheel_is_preferred(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: object())
    assert llama_server.llama_server_argv() == [sys.executable, "-m", "hotseat.llama_server"]


def test_without_the_wheel_the_path_is_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    assert llama_server.llama_server_argv() == ["/usr/bin/llama-server"]


def test_without_any_server_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(llama_server.LlamaServerMissingError, match=r"hotseat\[demo\]"):
        llama_server.llama_server_argv()
