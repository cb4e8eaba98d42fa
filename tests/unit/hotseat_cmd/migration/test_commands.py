"""What people start models with, as a command of ours: read as words, never run."""

import pytest

from hotseat.migration.command_lines.command import LLAMA_ENV, VLLM_ENV, About, command_words_of
from hotseat.migration.command_lines.programs import CommandError, ElsewhereError, OtherKindError
from hotseat.migration.command_lines.translate import command_of

OURS = ["--host", "{host}", "--alias", "{served_name}", "--api-key-file", "{api_key_file}"]
LLAMA = ["--port", "{port}", "-m", "{model_path}", *OURS]


def of(text, **about):
    return command_of(command_words_of(text), About(**about))


@pytest.mark.parametrize(
    "text, words, env",
    [
        ("llama-server --port {port} -m /a.gguf", ["llama-server", *LLAMA], {}),
        ("ik-llama-server --port {port} -m /a.gguf", ["ik-llama-server", *LLAMA], {}),
        ("/opt/ik_llama.cpp/build/bin/llama-server-b1 --port {port} -m /a.gguf", None, {}),
        ("/opt/llama.cpp/server --port {port} -m /a.gguf", None, {}),
        ("taskset -c 0-7 nice -n 5 llama-server --port {port} -m /a.gguf", None, {}),
        ("numactl --interleave=all -- llama-server --port {port} -m /a.gguf", None, {}),
        ("env -u DISPLAY llama-server --port {port} -m /a.gguf", None, {}),
        (
            "LD_LIBRARY_PATH=/x llama-server --port {port} -m /a.gguf",
            ["llama-server", *LLAMA],
            {"LD_LIBRARY_PATH": "/x"},
        ),
        ("env A=1 B=2 llama-server --port {port} -m /a.gguf", ["llama-server", *LLAMA], {"A": "1", "B": "2"}),
        ("exec llama-server --port {port} -m /a.gguf", ["llama-server", *LLAMA], {}),
        ("bash -c 'llama-server --port {port} -m /a.gguf'", ["llama-server", *LLAMA], {}),
        ("/bin/sh -ec 'exec env A=1 llama-server --port {port} -m /a.gguf'", ["llama-server", *LLAMA], {"A": "1"}),
    ],
)
def test_llama_server_is_found_behind_wrappers_and_is_given_its_places(text, words, env):
    found = of(text)
    assert list(found.words[-len(LLAMA) :]) == LLAMA
    assert words is None or list(found.words) == words
    assert (found.env, found.model_path, found.notes) == (env, "/a.gguf", [])


def test_what_the_worker_decides_replaces_what_is_there():
    found = of(
        "llama-server --port 8081 --host 0.0.0.0 -a mine,other -m /a.gguf --api-key k --api-key-file /k", port=8081
    )
    assert list(found.words) == [
        "llama-server", "--port", "{port}", "--host", "{host}", "--alias", "{served_name}", "-m", "{model_path}",
        "--api-key-file", "{api_key_file}",
    ]  # fmt: skip
    assert (found.alias, found.has_key) == ("mine", True)


def test_what_its_options_say_is_known():
    found = of("llama-server -m /a.gguf --mmproj /v.gguf -np 4")
    assert (found.parallel, found.sees, found.files) == (4, True, ["/a.gguf", "/v.gguf"])
    assert of("llama-server -m /a.gguf --embeddings").kind == "embedding"
    assert of("llama-server -m /a.gguf --reranking").kind == "rerank"
    assert of("llama-server -m /a.gguf --embedding --pooling rank").kind == "rerank"
    assert of("llama-server -hf a/b", env={"LLAMA_ARG_RERANKING": "1"}).kind == "rerank"
    assert of("llama-server", env={"LLAMA_ARG_MODEL": "/a.gguf"}).words[0] == "llama-server"


@pytest.mark.parametrize("option", ["--api-prefix /x", "--ssl-key-file /k"])
def test_what_would_keep_the_worker_out_is_left_out_and_said(option):
    found = of(f"llama-server -m /a.gguf {option}")
    assert option.split()[0] not in found.words
    assert f"{option.split()[0]} is left out" in found.notes[0]


@pytest.mark.parametrize(
    "text, front",
    [
        ("vllm serve org/m --port {port}", ["vllm", "serve", "org/m"]),
        ("/opt/venv/bin/vllm serve org/m --port=8000 --host 0.0.0.0", ["/opt/venv/bin/vllm", "serve", "org/m"]),
        ("uv run vllm serve org/m --api-key k --port {port}", ["uv", "run", "vllm", "serve", "org/m"]),
        (
            "python3 -m vllm.entrypoints.openai.api_server --model org/m --port {port}",
            ["python3", "-m", "vllm.entrypoints.openai.api_server", "--model", "org/m"],
        ),
    ],
)
def test_vllm_takes_its_key_from_its_environment(text, front):
    found = of(text)
    ours = ["--host", "{host}", "--port", "{port}", "--served-model-name", "{served_name}"]
    assert list(found.words) == [*front, *ours]
    assert (found.env, found.alias, found.is_wide) == (VLLM_ENV, "org/m", True)


def test_what_vllms_options_say_is_known():
    assert of("vllm serve org/m --max-num-seqs 32").parallel == 32
    assert of("vllm serve org/m --served-model-name a b").alias == "a"
    assert "more than one --served-model-name" in of("vllm serve org/m --served-model-name a b").notes[0]
    assert of("vllm serve org/m --task embed").kind == "embedding"
    assert of("vllm serve org/m --runner pooling --convert classify").kind == "rerank"
    assert of("vllm serve Qwen/Qwen3-Reranker-0.6B").kind == "rerank"
    assert of("vllm serve org/m --max-model-len -1 -tp 2").words[3:7] == ("--max-model-len", "-1", "-tp", "2")


@pytest.mark.parametrize(
    "text, port",
    [
        ("bash ./serve.sh {port}", None),
        ("python3 -m sglang.launch_server --model-path org/m --port {port}", None),
        ("/opt/koboldcpp --model /m/e.gguf --port {port}", None),
        ("/usr/bin/env bash /opt/run-llama-server.sh -p {port}", None),
        ("conda run -n x python serve.py --port 8123", 8123),
    ],
)
def test_any_other_program_is_started_as_it_is_and_its_key_is_in_variables(text, port):
    found = of(text, port=port)
    assert list(found.words) == text.replace("8123", "{port}").split()
    assert found.env == {**LLAMA_ENV, **VLLM_ENV}
    assert "is started as it is" in " ".join(found.notes)


def test_a_program_with_llama_servers_options_is_one_and_that_is_said():
    found = of("/opt/bin/lcpp-b6500 --port {port} -m /a.gguf")
    assert list(found.words) == ["/opt/bin/lcpp-b6500", *LLAMA]
    assert "takes llama-server's options" in found.notes[0]


def test_a_script_stays_a_script_with_the_port_and_its_key():
    script = "source /v/activate && exec llama-server --port 9501 -m /c.gguf --api-key mine -np 3"
    found = command_of(["bash", "-c", script], About(port=9501))
    assert found.words == ("bash", "-c", "source /v/activate && exec llama-server --port {port} -m /c.gguf  -np 3")
    assert (found.env, found.parallel, found.has_key) == ({**LLAMA_ENV, **VLLM_ENV}, 3, True)
    assert "--host in its script" in " ".join(of("sh -c 'x; llama-server --port {port} --host ::1 -m /a.gguf'").notes)


@pytest.mark.parametrize(
    "text, name, kind",
    [
        ("bash ./serve.sh {port}", "bge-reranker-v2-m3", "rerank"),
        ("bash -c 'cd /x && ./serve {port}'", "nomic-embed-text", "embedding"),
        ("text-embeddings-router --model-id BAAI/bge-large-en --port {port}", "a", "embedding"),
        ("infinity_emb v2 --model-id mixedbread-ai/mxbai-rerank-base --port {port}", "a", "rerank"),
        ("bash ./serve.sh {port}", "qwen", "chat"),
        ("bash /srv/rerankers/embed/serve.sh {port}", "qwen", "chat"),
    ],
)
def test_the_kind_of_what_nobody_knows_is_guessed_by_names_and_said(text, name, kind):
    found = of(text, name=name)
    assert found.kind == kind
    assert ("is taken for a model of kind" in " ".join(found.notes)) == (kind != "chat")
    assert f"for a model of kind {kind}" in " ".join(found.notes)


@pytest.mark.parametrize(
    "text",
    [
        "docker run --rm -p {port}:8080 image",
        "/usr/bin/podman run image",
        "sudo docker run image",
        "flock /tmp/l docker run -p {port}:80 image",
        "bash -c 'docker run -p {port}:80 image'",
        "bash -c 'cd /srv && exec docker compose up'",
        "env A=1 nerdctl run image",
        "ssh gpu llama-server --port {port} -m /a.gguf",
        "sudo -u llama llama-server --port {port} -m /a.gguf",
        "systemctl --user start llama",
        "C:\\\\llama\\\\llama-server.exe -m a.gguf",
        "cmd /c start.bat",
    ],
)
def test_what_would_be_no_child_of_the_workers_is_not_started(text):
    with pytest.raises(ElsewhereError):
        of(text)


@pytest.mark.parametrize(
    "text",
    [
        "whisper-server --port {port} -m /m/w.bin",
        "/opt/sd.cpp/sd-server --listen-port {port}",
        "python -m kokoro --port {port}",
        "/opt/kokoro/start.sh {port}",
        "bash -c 'cd /x; exec /opt/whisper.cpp/serve {port}'",
    ],
)
def test_sound_and_pictures_are_no_kind_of_ours(text):
    with pytest.raises(OtherKindError):
        of(text)
    with pytest.raises(OtherKindError):
        of("bash ./serve.sh {port}", name="whisper-large-v3")


@pytest.mark.parametrize(
    "text, why",
    [
        ("llama-server --port {port} --models-dir /m", "is llama-server's router"),
        ("bash -c 'x; llama-server --port {port} --models-dir /m'", "is llama-server's router"),
        ("llama-server --port {port}", "names no model"),
        ("./start.sh", "has no place for the port"),
        ("bash -c 'llama-server --port {port} -m /a.gguf &'", "goes into the background"),
        ("llama-server -m /a.gguf --grammar {root}", "holds braces"),
    ],
)
def test_what_cannot_be_started_is_said(text, why):
    with pytest.raises(CommandError, match=why):
        of(text)


def test_a_port_in_a_file_of_its_own_is_said():
    with pytest.raises(CommandError, match="8123 is in a file of its own"):
        of("./start.sh", port=8123)


def test_json_in_an_argument_is_an_argument():
    arguments = "'{\"enable_thinking\":false}'"
    assert '{"enable_thinking":false}' in of(f"llama-server -m /a.gguf --chat-template-kwargs {arguments}").words


def test_a_kind_that_is_said_is_not_guessed():
    found = of("bash ./serve.sh {port}", name="embeds", kind="rerank")
    assert found.kind == "rerank"
    assert "for a model of kind rerank" in " ".join(found.notes)


def test_relative_paths_are_said():
    assert "relative" in " ".join(of("./llama-server -m a.gguf").notes)
    assert of("/opt/llama-server -m ~/a.gguf").notes == []
