"""A llama-swap configuration, imported and used as it is printed: broker and worker start, the model is served."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from harness.redis_servers import VALKEY, RedisServer
from hotseat.demo.tiny_gguf import write_tiny_gguf
from hotseat.llama_server import llama_server_argv

pytest.importorskip("gguf")
pytest.importorskip("xllamacpp")

EVERYTHING = """
models:
  quick:
    cmd: "{folder}/llama-server --port ${{PORT}} --threads 1 -m '{folder}/tiny a.gguf' --ctx-size 512"
    filters:
      stripParams: max_tokens
      setParamsByID:
        quick: {{max_tokens: 2}}
        "quick, at length": {{max_tokens: 6}}
        "${{MODEL_ID}}:short": {{max_tokens: 1}}
  wrapped:
    cmd: bash {folder}/serve.sh ${{PORT}}
  in a shell:
    cmd: sh -c 'cd "{folder}" && exec ./llama-server --port 9517 --threads 1 -m "tiny a.gguf" -c 512'
    proxy: http://127.0.0.1:9517
  ranks:
    cmd: "env A=1 {folder}/llama-server --port ${{PORT}} --threads 1 -m '{folder}/tiny a.gguf' -c 512 --reranking"
"""
SCRIPT = """#!/bin/sh
exec "{folder}/llama-server" --port "$1" --threads 1 -m "{folder}/tiny a.gguf" -c 512
"""
LLAMA_SWAP = """
apiKeys: [sk-kept]
macros:
  server: "{folder}/llama-server --port ${{PORT}} --threads 1"
models:
  "tiny model":
    cmd: |
      # as small as it gets
      ${{server}} -m "{folder}/tiny a.gguf"
      --ctx-size 512 --parallel 2
    ttl: 600
"""


def eventually(what, *, within_s: float = 60.0):
    """Ask until it says something true."""
    deadline_s = time.monotonic() + within_s
    while not (answer := what()):
        assert time.monotonic() < deadline_s
        time.sleep(0.1)
    return answer


@contextmanager
def running(part: str, config: Path, environ: dict[str, str], log: Path) -> Iterator[subprocess.Popen]:
    """`hotseat <part> --config …` until the block ends."""
    argv = [sys.executable, "-m", "hotseat", part, "--config", str(config)]
    with log.open("wb") as out:
        process = subprocess.Popen(argv, env=environ, stdout=out, stderr=out)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture
def environ(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Of a machine with llama-server in a folder and a store of its own."""
    write_tiny_gguf(tmp_path / "tiny a.gguf", name="tiny", seed=1)
    program = tmp_path / "llama-server"
    words = " ".join(f"'{word}'" for word in llama_server_argv())
    program.write_text(f'#!/bin/sh\nexec {words} "$@"\n')
    program.chmod(0o755)
    store = RedisServer(VALKEY, aof=True).start()
    plain = {name: value for name, value in os.environ.items() if not name.startswith("HOTSEAT_")}
    yield {
        **plain,
        "HOTSEAT_STORE_URL": store.url,
        "HOTSEAT_BROKER_PORT": "0",
        "HOTSEAT_WORKER_STATE_DIR": str(tmp_path / "state"),
        "HOTSEAT_WORKER_ON_EXIT": "stop",
        "HOTSEAT_WORKER_ADOPT_TIMEOUT_S": "30",
    }
    store.close()


def test_an_imported_model_is_loaded_and_answers_under_its_clients_key(tmp_path, environ):
    source, config = tmp_path / "llama-swap.yaml", tmp_path / "hotseat.toml"
    source.write_text(LLAMA_SWAP.format(folder=tmp_path))
    done = subprocess.run(
        [sys.executable, "-m", "hotseat", "import", str(source), "--output", str(config), "--budget-mib", "1000"],
        env=environ, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "models.tiny model" in done.stderr
    log = tmp_path / "broker.log"
    with running("broker", config, environ, log), running("worker", config, environ, tmp_path / "worker.log"):
        url = eventually(lambda: re.search(r"running on (http://[0-9.:]+)", log.read_text()))[1]
        headers = {"Authorization": "Bearer sk-kept"}
        with httpx.Client(base_url=url, headers=headers, timeout=90) as client:
            eventually(lambda: client.get("/readyz").status_code == 200)
            lease = client.post("/lease", json={"sessionKey": "s", "model": "tiny-model"}).json()
            lease = eventually(
                lambda: (now := client.get(f"/lease/{lease['leaseId']}?wait=20").json())["state"] == "active" and now
            )
            server = lease["endpoint"]
            models = httpx.get(f"{server['baseUrl']}/models", headers={"Authorization": f"Bearer {server['apiKey']}"})
            assert [model["id"] for model in models.json()["data"]] == ["tiny-model"]
            assert httpx.post(f"{url}/lease", json={"sessionKey": "s", "model": "tiny-model"}).status_code == 401


def asked(client, path, body):
    """A request that may wait for its model."""
    answer = eventually(lambda: (got := client.post(path, json=body)).status_code != 429 and got)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_wrappers_scripts_rerankers_and_names_with_parameters_are_served_as_they_were(tmp_path, environ):
    source, config = tmp_path / "llama-swap.yaml", tmp_path / "hotseat.toml"
    source.write_text(EVERYTHING.format(folder=tmp_path))
    (tmp_path / "serve.sh").write_text(SCRIPT.format(folder=tmp_path))
    argv = [sys.executable, "-m", "hotseat", "import", str(source), "--output", str(config), "--budget-mib", "9000"]
    done = subprocess.run(argv, env=environ, capture_output=True, text=True, check=True)
    assert "not carried over" not in done.stderr
    log = tmp_path / "broker.log"
    with running("broker", config, environ, log), running("worker", config, environ, tmp_path / "worker.log"):
        url = eventually(lambda: re.search(r"running on (http://[0-9.:]+)", log.read_text()))[1]
        with httpx.Client(base_url=url, timeout=120) as client:
            eventually(lambda: client.get("/readyz").status_code == 200)
            chat = {"messages": [{"role": "user", "content": "a"}], "max_tokens": 40, "temperature": 0}
            for name, tokens in (("quick", 2), ("quick:short", 1), ("quick, at length", 6)):
                answer = asked(client, "/v1/chat/completions", {**chat, "model": name})
                assert answer["usage"]["completion_tokens"] <= tokens
                assert answer["usage"]["completion_tokens"] == tokens or tokens == 6
            for name in ("wrapped", "in a shell"):
                assert asked(client, "/v1/chat/completions", {**chat, "model": name, "max_tokens": 1})["choices"]
            ranked = asked(client, "/v1/rerank", {"model": "ranks", "query": "a", "documents": ["a", "b"]})
            assert {one["index"] for one in ranked["results"]} == {0, 1}
