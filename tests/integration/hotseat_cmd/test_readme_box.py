"""The README's "Run it on your own GPU box", as it stands there: its file, its command, its request."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from harness.redis_servers import VALKEY, RedisServer
from hotseat.demo.tiny_gguf import write_tiny_gguf
from tests.integration.hotseat_cmd.test_up import eventually, free_port, processes_naming

pytestmark = [pytest.mark.redis, pytest.mark.slow]

README = Path(__file__).parents[3] / "README.md"
SECTION = README.read_text(encoding="utf-8").split("## Run it on your own GPU box")[1].split("\n## ")[0]
CONFIGURATION = re.search(r"```toml\n(.*?)```", SECTION, re.DOTALL)[1]
START, ASK = re.findall(r"```sh\n(.*?)```", SECTION, re.DOTALL)


@pytest.fixture
def box(tmp_path):
    """A folder with a model, a store that runs, and a `llama-server` on the PATH."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "llama-server").write_text(
        f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m hotseat.llama_server "$@"\n'
    )
    (programs / "llama-server").chmod(0o755)
    write_tiny_gguf(tmp_path / "chat.gguf", name="chat", seed=1)
    store = RedisServer(VALKEY).start()
    yield tmp_path, programs, store
    store.close()


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl")
def test_a_dozen_lines_and_one_command_serve_a_chat(box):
    folder, programs, store = box
    port = free_port()
    there = {
        "redis://127.0.0.1:6379/0": store.url,
        "/srv/models/chat.gguf": str(folder / "chat.gguf"),
        "anonymous = true": f"anonymous = true\nport = {port}",
    }
    text = CONFIGURATION
    for ours, this in there.items():
        assert ours in text
        text = text.replace(ours, this)
    (folder / "hotseat.toml").write_text(text)
    environment = {
        "PATH": f"{programs}:{Path(sys.executable).parent}:/usr/bin:/bin",
        "HOME": str(folder),
        "HOTSEAT_WORKER_ON_EXIT": "stop",
    }
    with (folder / "log").open("wb") as log:
        shell = subprocess.Popen(
            ["bash", "-c", START], cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    try:
        ready = f"http://127.0.0.1:{port}/readyz"
        eventually(lambda: is_up(ready), "a ready broker")
        asked = ASK.replace("127.0.0.1:4687", f"127.0.0.1:{port}")
        done = subprocess.run(
            ["bash", "-c", asked], env=environment, capture_output=True, text=True, timeout=120, check=True
        )
        assert '"role":"assistant"' in done.stdout, done.stdout + (folder / "log").read_text()
    finally:
        os.killpg(shell.pid, signal.SIGTERM)
        shell.wait(30)
        eventually(lambda: not processes_naming(str(folder)), "the end of all of it")


def is_up(url):
    try:
        return httpx.get(url).status_code == 200
    except httpx.TransportError:
        return False
