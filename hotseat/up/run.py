"""One run of `hotseat up`: prepare the models, start the parts, keep them up, stop them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from hotseat import __version__
from hotseat.demo.agents import Demo
from hotseat.demo.models import DemoModel, prepare_demo_models
from hotseat.llama_server import llama_server_argv
from hotseat.terminal.progress_line import ProgressLine
from hotseat.up.child import Child
from hotseat.up.configuration import BUDGET_MIB, UpConfig
from hotseat.up.embedded_valkey import start_valkey, store_url
from hotseat.up.parts import Part, Parts

HOST = "127.0.0.1"
DEFAULT_PORT = 4687
READY_TIMEOUT_S = 60.0
READY_POLL_S = 0.05
BROKER_STOP_S, WORKER_STOP_S, STORE_STOP_S = 15.0, 30.0, 10.0
WRONG_CONFIGURATION, SUPERSEDED, SLOT_TAKEN = 2, 3, 4
MOST_THREADS = 4


class UpError(Exception):
    """It cannot start; the message says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What was asked for.

    Attributes:
        port: The broker's, on the loopback address.
        store_port: The store's; 0 for its Unix socket only.
        turns: How many turns each agent takes before everything stops; None: until Ctrl-C.
        think_s: Between two turns of an agent, seconds, on average.
        context_tokens: Of one request to a model.
    """

    state_dir: Path
    models_dir: Path
    port: int
    store_port: int
    demo: bool
    turns: int | None
    think_s: float
    context_tokens: int

    @property
    def url(self) -> str:
        """URL of the broker on this machine."""
        return f"http://{HOST}:{self.port}"


@dataclass(slots=True)
class UpRun:
    """Everything that one start needs."""

    options: Options
    models: tuple[DemoModel, ...] = ()
    progress: ProgressLine = field(default_factory=ProgressLine)
    demo: Demo | None = None
    budget_mib: int = BUDGET_MIB

    def prepare(self) -> None:
        """Make the model files, where this is the first time.

        Raises:
            DemoModelsMissingError: The demo extra is not installed.
        """
        print(f"Hotseat {__version__}: agents wait in line for a model instead of failing.\n")
        self.models = prepare_demo_models(self.options.models_dir, report=self.progress.part)
        names = ", ".join(f"{model.name} ({size_of(model.path)})" for model in self.models)
        self.progress.done("models", f"{names} in {self.options.models_dir}")

    async def until(self, stop: asyncio.Event) -> None:
        """Start everything, keep it up until told to stop or the agents are done, stop it.

        Raises:
            PartFailedError: A part does not stay up.
            StoreStartError, LlamaServerMissingError, UpError: It could not start.
        """
        parts = Parts(say=self._say)
        try:
            self._start(parts)
            await self._work(parts, stop)
        finally:
            _tell("\nstopping …")
            await asyncio.shield(asyncio.to_thread(parts.stop))
            _tell(f"stopped; state is kept in {self.options.state_dir}")

    def _start(self, parts: Parts) -> None:
        folder = self.options.state_dir
        parts.add(self._store_part())
        self.progress.done("store", f"Valkey, every write on disk before it is answered, {self._store_url()}")
        written = self._config()
        self.budget_mib = written.budget_mib
        config = str(written.write(folder / "hotseat.toml"))
        parts.add(self._command_part("broker", "--config", config, stop_timeout_s=BROKER_STOP_S))
        parts.add(self._command_part("worker", "--config", config, "--stop-servers", stop_timeout_s=WORKER_STOP_S))

    async def _work(self, parts: Parts, stop: asyncio.Event) -> None:
        tasks = [asyncio.create_task(parts.watch()), asyncio.create_task(stop.wait())]
        tasks.append(asyncio.create_task(self._serve()))
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in reversed(tasks):  # the agents first: they give back what they hold
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, Exception):
                    await task

    async def _serve(self) -> None:
        await self._broker_answers()
        self.progress.done("broker", self.options.url)
        self.progress.done("worker", f"1 slot with {self.budget_mib} MiB: room for one of the two models")
        print(self._hints(), flush=True)
        if not self.options.demo:
            await asyncio.Event().wait()
        self.demo = Demo(self.options.url, [model.name for model in self.models], think_s=self.options.think_s)
        await self.demo.run(turns=self.options.turns)

    async def _broker_answers(self) -> None:
        deadline = time.monotonic() + READY_TIMEOUT_S
        async with httpx.AsyncClient(base_url=self.options.url) as http:
            while time.monotonic() < deadline:
                with contextlib.suppress(httpx.TransportError):
                    if (await http.get("/healthz")).is_success:
                        return
                await asyncio.sleep(READY_POLL_S)
        raise UpError(f"the broker does not answer; its log is {self.options.state_dir / 'broker.log'}")

    def _store_folder(self) -> Path:
        return self.options.state_dir / "store"

    def _store_url(self) -> str:
        return store_url(self._store_folder(), port=self.options.store_port)

    def _store_part(self) -> Part:
        return Part(
            name="store",
            start=lambda: start_valkey(self._store_folder(), port=self.options.store_port).child,
            stop_timeout_s=STORE_STOP_S,
        )

    def _command_part(self, name: str, *arguments: str, stop_timeout_s: float) -> Part:
        argv = [sys.executable, "-m", "hotseat", name, *arguments]
        log = self.options.state_dir / f"{name}.log"
        return Part(
            name=name,
            start=lambda: Child.start(argv, name=name, log=log),
            stop_timeout_s=stop_timeout_s,
            final_codes=frozenset({WRONG_CONFIGURATION, SUPERSEDED, SLOT_TAKEN}),
        )

    def _config(self) -> UpConfig:
        return UpConfig(
            store_url=self._store_url(),
            port=self.options.port,
            worker_state_dir=self.options.state_dir / "worker",
            models=self.models,
            server_argv=llama_server_argv(),
            threads=server_threads(os.cpu_count() or 1),
            context_tokens=self.options.context_tokens,
        )

    def _hints(self) -> str:
        url = "" if self.options.port == DEFAULT_PORT else f"HOTSEAT_URL={self.options.url} "
        return (
            f"\n  look from another terminal: {url}{command_name()} ps"
            f"\n  configuration and logs:     {self.options.state_dir}"
            "\n  Ctrl-C stops everything.\n"
        )

    def _say(self, line: str) -> None:
        if self.demo is None:
            _tell(f"  ! {line}")
        else:
            self.demo.view.say(line)


def size_of(path: Path) -> str:
    """Return how large a file is, for a person."""
    return f"{path.stat().st_size / 1e6:.0f} MB"


def _tell(line: str) -> None:
    """Say it where somebody can hear it; a terminal that has closed keeps nothing from being stopped."""
    with contextlib.suppress(OSError):
        print(line, flush=True)


def command_name() -> str:
    """Return how this `hotseat` can be called from the folder the person is in."""
    script = Path(sys.executable).with_name("hotseat")
    return os.path.relpath(script) if script.exists() else f"{sys.executable} -m hotseat"


def server_threads(cores: int) -> int:
    """Leave one core to the broker and the store: a model server's threads spin, and small models gain little."""
    return max(1, min(MOST_THREADS, cores - 1))
