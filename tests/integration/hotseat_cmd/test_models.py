"""Model files made by us, spoken by the real server of llama.cpp."""

import re
import secrets
import socket
import subprocess
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import gguf
import httpx
import numpy as np
import pytest

from hotseat.demo.gguf_to_f16 import write_as_f16
from hotseat.demo.models import DemoModel, prepare_demo_models
from hotseat.demo.tiny_gguf import write_tiny_gguf
from hotseat.llama_server import llama_server_argv
from hotseat.up.configuration import MOST_TOKENS, UpConfig

WORDS_ONLY = re.compile(r"( [a-z]{4})+")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def served(model: Path, *flags: str, load_timeout_s: float = 60.0) -> Iterator[httpx.Client]:
    key, port = secrets.token_hex(8), free_port()
    argv = [*llama_server_argv(), "-m", str(model), "--port", str(port), "-c", "1024", "-np", "2", "-t", "2", *flags]
    with subprocess.Popen([*argv, "--api-key", key], stderr=subprocess.DEVNULL) as server:
        base_url = f"http://127.0.0.1:{port}"
        with httpx.Client(base_url=base_url, headers={"Authorization": f"Bearer {key}"}, timeout=60) as client:
            try:
                wait_until_ready(client, server, timeout_s=load_timeout_s)
                yield client
            finally:
                server.kill()


def wait_until_ready(client: httpx.Client, server: "subprocess.Popen[bytes]", *, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while True:
        assert server.poll() is None, "the server ended while loading"
        assert time.monotonic() < deadline, "the server is not ready"
        try:
            if client.get("/health").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.02)


def completion(client: httpx.Client, prompt: str, *, max_tokens: int, temperature: float = 1.0) -> dict:
    body = {"prompt": prompt, "max_tokens": max_tokens, "temperature": temperature}
    answer = client.post("/v1/completions", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_tiny_model_says_words_and_exactly_as_many_as_asked(tmp_path: Path) -> None:
    model = write_tiny_gguf(tmp_path / "tiny-a.gguf", name="tiny-a", seed=1)
    with served(model) as client:
        for prompt in ("hello", "héllo wörld 你好", "{}\x07"):
            answer = completion(client, prompt, max_tokens=24)
            assert WORDS_ONLY.fullmatch(answer["choices"][0]["text"])
            assert answer["usage"]["completion_tokens"] == 24
            assert answer["choices"][0]["finish_reason"] == "length"


def test_tiny_model_chats(tmp_path: Path) -> None:
    model = write_tiny_gguf(tmp_path / "tiny-a.gguf", name="tiny-a", seed=1)
    with served(model) as client:
        body = {"messages": [{"role": "user", "content": "Who is next?"}], "max_tokens": 8}
        answer = client.post("/v1/chat/completions", json=body).json()
        assert WORDS_ONLY.fullmatch(answer["choices"][0]["message"]["content"])


def test_server_refuses_who_has_not_its_key(tmp_path: Path) -> None:
    model = write_tiny_gguf(tmp_path / "tiny-a.gguf", name="tiny-a", seed=1)
    with served(model) as client:
        refused = client.post("/v1/completions", json={"prompt": "a"}, headers={"Authorization": "Bearer other"})
        assert refused.status_code == 401


def test_server_ends_with_an_error_when_there_is_no_model(tmp_path: Path) -> None:
    argv = [*llama_server_argv(), "-m", str(tmp_path / "none.gguf"), "--port", str(free_port())]
    ended = subprocess.run(argv, capture_output=True, check=False, timeout=60)
    assert ended.returncode == 1


def test_same_seed_same_bytes_and_other_seed_other_bytes(tmp_path: Path) -> None:
    one, again, other = (
        write_tiny_gguf(tmp_path / f"{number}.gguf", name="tiny", seed=seed).read_bytes()
        for number, seed in enumerate((1, 1, 2))
    )
    assert one == again
    assert one != other


def test_unpacked_model_has_the_weights_of_the_quantised_one(tmp_path: Path) -> None:
    packed = tmp_path / "packed.gguf"
    weights = np.random.default_rng(0).standard_normal((40, 64), dtype=np.float32)
    norm = np.linspace(0.5, 1.5, 64, dtype=np.float32)
    writer = gguf.GGUFWriter(packed, "llama")
    writer.add_token_list(["a", "b"])
    writer.add_tensor(
        "matrix", gguf.quantize(weights, gguf.GGMLQuantizationType.Q8_0), raw_dtype=gguf.GGMLQuantizationType.Q8_0
    )
    writer.add_tensor("norm", norm)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    parts: list[float] = []

    reader = gguf.GGUFReader(write_as_f16(packed, tmp_path / "f16.gguf", name="unpacked", progress=parts.append))

    matrix, kept = reader.tensors
    assert matrix.tensor_type == gguf.GGMLQuantizationType.F16
    assert np.allclose(matrix.data.astype(np.float32), weights, atol=0.03)
    assert np.array_equal(kept.data, norm)
    assert reader.fields["tokenizer.ggml.tokens"].contents() == ["a", "b"]
    assert parts[-1] == 1.0
    assert not list(tmp_path.glob("*.part"))


def catalogue_flags(model: Path) -> list[str]:
    """What the demo's catalogue adds to a server's own arguments."""
    made = DemoModel(name="m", path=model, memory_mib=450, load_s=2.0)
    config = UpConfig(
        store_url="", port=0, worker_state_dir=Path(), models=[made, made], server_argv=["llama-server"], threads=2
    )
    command = tomllib.loads(config.text())["model"][0]["command"]
    return command[command.index("--jinja") :]


def chat(client: httpx.Client, *said: str, **more: object) -> tuple[str, str, int]:
    """Answer, why it ended, and how many tokens it has."""
    roles = ("user", "assistant")
    messages = [{"role": roles[number % 2], "content": text} for number, text in enumerate(said)]
    answer = client.post("/v1/chat/completions", json={"messages": messages, **more}, timeout=100).json()
    choice = answer["choices"][0]
    return choice["message"]["content"], choice["finish_reason"], answer["usage"]["completion_tokens"]


def test_an_answer_without_a_bound_of_its_own_comes_to_an_end(tmp_path: Path) -> None:
    model = write_tiny_gguf(tmp_path / "tiny-a.gguf", name="tiny-a", seed=1)
    with served(model, *catalogue_flags(model)) as client:
        assert chat(client, "Go on for ever.")[1:] == ("length", MOST_TOKENS)
        assert completion(client, "for ever", max_tokens=300)["usage"]["completion_tokens"] == 300, "theirs holds"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_demo_answers_like_a_model(tmp_path: Path) -> None:
    small = prepare_demo_models(tmp_path, report=lambda _what, _part: None)[0].path
    with served(small, *catalogue_flags(small), load_timeout_s=100) as client:
        answer, why, _ = chat(client, "What is the capital of France?", temperature=0)
        assert "Paris" in answer
        assert "<|" not in answer
        assert "Question" not in answer
        assert why == "stop"
        said = ("Name two colours.", "Red and blue.", "And two animals?")
        assert chat(client, *said, temperature=0)[1] == "stop"


@pytest.mark.slow
def test_both_demo_models_know_the_sun(tmp_path: Path) -> None:
    for model in prepare_demo_models(tmp_path, report=lambda _what, _part: None):
        with served(model.path, load_timeout_s=100) as client:
            answer = completion(client, "The sun rises in the", max_tokens=4, temperature=0.0)
            assert "east" in answer["choices"][0]["text"]
