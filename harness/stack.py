"""The whole product on one machine: Valkey, a broker, a worker, and real llama.cpp servers with small random models.

Two models fit never together, so every change of model is a real unload and a real load.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from harness.broker_process import BrokerProcess
from harness.redis_servers import VALKEY, RedisServer
from hotseat.demo.tiny_gguf import GgufShape, write_tiny_gguf
from hotseat.llama_server import llama_server_argv

ROOT = Path(__file__).parents[1]
SHAPE = GgufShape(width=256, layers=4, feed_forward=512, heads=4)
"""About 8 MB: a few hundred tokens a second on one core."""
MEMORY_MIB, BUDGET_MIB = 600, 1000
SIZE = ("-c", "2048", "-np", "2", "-t", "1")
_KEY_AND_MODEL = ("--api-key-file", "{api_key_file}", "--alias", "{served_name}", "-m", "{model_path}")
FLAGS = (*SIZE, "--host", "{host}", "--port", "{port}", *_KEY_AND_MODEL)


@dataclass
class Stack:
    """What runs."""

    folder: Path
    broker: BrokerProcess
    store: RedisServer
    worker: subprocess.Popen[bytes] | None = None
    catalogue: str = ""
    slot: str = "gpu0"
    worker_log: list[Path] = field(default_factory=list)

    @property
    def url(self) -> str:
        return self.broker.url

    @property
    def v1(self) -> str:
        return f"{self.broker.url}/v1"

    def start_worker(self) -> None:
        """As a process of its own; it adopts what an earlier one left."""
        config = self.folder / "worker.toml"
        config.write_text(
            f'[store]\nurl = "{self.store.url}"\n[worker]\nname = "host"\nstate_dir = "{self.folder}/state"\n'
            f'beat_s = 0.5\n[[worker.slot]]\nid = "{self.slot}"\nbudget_mib = {BUDGET_MIB}\n{self.catalogue}'
        )
        environ = {name: value for name, value in os.environ.items() if not name.startswith("HOTSEAT_")}
        log = self.folder / "worker.log"
        with log.open("ab") as out:
            argv = [sys.executable, "-m", "gpu_worker.cli", "--config", str(config), "--stop-servers"]
            self.worker = subprocess.Popen(argv, cwd=ROOT, stdout=out, stderr=out, env=environ)

    def server_pids(self, model: str) -> list[int]:
        """Processes of a model's server, by the file it loads."""
        found = []
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdigit() and f"{self.folder}/{model}.gguf".encode() in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
        return found

    def stop_worker(self) -> None:
        """It ends the model servers; safe to repeat."""
        if self.worker is not None:
            self.worker.send_signal(signal.SIGTERM)
            try:
                self.worker.wait(20)
            except subprocess.TimeoutExpired:
                self.worker.kill()
                self.worker.wait()

    def stop(self) -> None:
        """The worker first."""
        self.stop_worker()
        for model in ("a", "b", "e"):
            for pid in self.server_pids(model):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self.broker.stop()
        self.store.close()
        shutil.rmtree(self.folder, ignore_errors=True)


@dataclass(frozen=True)
class Build:
    """What the model servers are and how large their files."""

    server: Sequence[str] = field(default_factory=llama_server_argv)
    shape: GgufShape = SHAPE


def model_toml(folder: Path, name: str, *more: str, build: Build, **entry: object) -> str:
    """One ``[[model]]``; its file is written where it is missing."""
    path = folder / f"{name}.gguf"
    write_tiny_gguf(path, name=name, seed=ord(name[0]), shape=build.shape)
    command = [*build.server, *FLAGS, *more]
    lines = [f'name = "{name}"', f"memory_mib = {MEMORY_MIB}", "lease_limit = 2", f"command = {command!r}"]
    lines += [f'model_path = "{path}"', f'env = {{PYTHONPATH = "{ROOT}"}}']
    lines += [f"{key} = {value!r}" for key, value in entry.items()]
    return "[[model]]\n" + "\n".join(lines) + "\n"


@contextlib.contextmanager
def real_stack(extra: str = "", build: Build | None = None) -> Iterator[Stack]:
    """Models ``a`` and ``b`` speak, ``e`` embeds."""
    folder = Path(tempfile.mkdtemp(prefix="hotseat-data-path-"))
    store = RedisServer(VALKEY, aof=True).start()
    broker = None
    stack = None
    try:
        build = build or Build()
        catalogue = model_toml(folder, "a", build=build) + model_toml(folder, "b", build=build)
        catalogue += model_toml(folder, "e", "--embedding", "--pooling", "mean", build=build, kind="embedding")
        broker = BrokerProcess(store.url, extra=extra, models=catalogue).until_ready()
        stack = Stack(folder, broker, store, catalogue=catalogue)
        stack.start_worker()
        until_open(stack)
        yield stack
    finally:
        if stack is not None:
            stack.stop()
        else:
            if broker is not None:
                broker.stop()
            store.close()
            shutil.rmtree(folder, ignore_errors=True)


def until_open(stack: Stack) -> None:
    """Wait for the worker."""
    with httpx.Client(timeout=5) as client:
        for _ in range(300):
            if any(card["served"] for card in client.get(f"{stack.v1}/models").json()["data"]):
                return
            with contextlib.suppress(subprocess.TimeoutExpired):
                assert stack.worker is not None
                stack.worker.wait(0.1)
                raise AssertionError((stack.folder / "worker.log").read_text())
    raise AssertionError((stack.folder / "worker.log").read_text())
