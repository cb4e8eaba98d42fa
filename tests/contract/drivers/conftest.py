"""One suite, every driver: what each needs to be asked with real servers."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from gpu_worker.drivers.dispatcher import Dispatcher
from gpu_worker.drivers.port import DriverSettings, Launch, Recipe
from gpu_worker.drivers.process import driver as process_driver
from gpu_worker.drivers.process import guardian_line
from gpu_worker.drivers.registry import driver_entry_of
from gpu_worker.host import procfs
from tests.fakes.drivers import attach
from tests.fakes.hosted import ControlService, OllamaService

FAKE = Path(__file__).parents[2] / "fakes" / "model_server.py"
SLOT = "gpu0"
PATIENCE_S = 60.0
FAULTS = {
    "slow": ("--load-delay", "1.5"),
    "stubborn": ("--ignore-sigterm", "--fork-child", "--fork-daemon"),
    "sleepy": ("--sleep-delay", "5"),
}
"""How a server may be, by the flags of the fake one."""


async def eventually(question, what="it", within_s=PATIENCE_S):
    deadline_s = time.monotonic() + within_s
    while not (answer := question()):
        if time.monotonic() > deadline_s:
            pytest.fail(f"{what} did not happen within {within_s} s")
        await asyncio.sleep(0.01)
    return answer


class Rig:
    """A driver's name, its workers on one host, and servers for it."""

    name: str
    entry = None

    def __init__(self, folder):
        self.folder = folder
        self.drivers = []

    def worker(self):
        """The driver of a worker that starts now, and the dispatcher in front of it."""
        settings = DriverSettings(state_dir=self.folder / "state", environ=dict(os.environ))
        self.drivers.append(driver := self.entry.make(settings))
        return Dispatcher({self.name: driver}), driver

    def launch(self, recipe, generation=1, slot=SLOT):
        return Launch(slot=slot, recipe=recipe, generation=generation, key=f"key-{slot}-{generation}")

    def of(self, server):
        """What is left of one server while it lives."""
        return server.pids()

    async def end(self):
        for driver in self.drivers:
            await driver.close()


class ProcessRig(Rig):
    """Each load is a process of its own."""

    name = "process"
    entry = driver_entry_of("process")

    def __init__(self, folder, monkeypatch):
        super().__init__(folder)
        self.lines = []
        monkeypatch.setattr(process_driver, "start_guardian", self.start_guardian)

    def start_guardian(self):
        self.lines.append(line := guardian_line.start_guardian())
        return line

    def recipe(self, *faults, model="a", **more):
        command = [sys.executable, "-S", "-E", str(FAKE), "--host", "{host}", "--port", "{port}"]
        command += ["--alias", "{served_name}", "--api-key-file", "{api_key_file}"]
        command += [flag for fault in faults for flag in FAULTS[fault]]
        words = {"served_name": model, "kind": "chat", "memory_mib": 1, "own": self.entry.section()} | more
        return Recipe(model=model, driver=self.name, command=tuple(command), **words)

    def left(self, slot=SLOT):
        """Processes that its servers are, or were."""
        settings = self.drivers[0]._settings
        return procfs.marked(settings.mark(slot))

    def kill(self, server):
        os.kill(min(server.pids()), signal.SIGKILL)

    async def end(self):
        await super().end()
        for slot in (SLOT, "gpu1"):
            procfs.signal_all(self.left(slot), signal.SIGKILL)
        for line in self.lines:
            line.close()
            with contextlib.suppress(ProcessLookupError):  # it may end by itself between the look and the signal
                if procfs.is_same(*line.guardian):
                    os.kill(line.guardian[0], signal.SIGKILL)
            await asyncio.to_thread(line._child.wait, PATIENCE_S)


class DoorRig(ProcessRig):
    """The same in front of a server that knows no keys: a door admits whoever bears them."""

    variant = "process, key = none"

    def recipe(self, *faults, model="a", **more):
        made = super().recipe(*faults, model=model, **more)
        command = [word for word in made.command if word not in {"--api-key-file", "{api_key_file}"}]
        return replace(made, command=tuple(command), key="none")

    def kill(self, server):
        os.kill(server._pid[0], signal.SIGKILL)


class AttachRig(Rig):
    """The server is there before its load, and after."""

    name = "attach"
    entry = attach.DRIVER

    def __init__(self, folder, monkeypatch):
        super().__init__(folder)
        self.servers = []

    def recipe(self, *faults, model="a", **more):
        flags = FAULTS["sleepy"] if "sleepy" in faults else ("--sleep-delay", "0")  # nothing else is its own to end
        argv = [sys.executable, "-S", "-E", str(FAKE), "--port", "0", "--alias", model, "--any-key", "--tell-port"]
        process = subprocess.Popen([*argv, "--footprint", "700", *flags], stdout=subprocess.PIPE)
        self.servers.append(process)
        own = self.entry.section(url=f"http://127.0.0.1:{int(process.stdout.readline())}")
        words = {"served_name": model, "kind": "chat", "memory_mib": 1, "own": own} | more
        return Recipe(model=model, driver=self.name, **words)

    def left(self, slot=SLOT):
        return set()  # it starts nothing

    def kill(self, server):
        for process in self.servers:
            process.kill()

    async def end(self):
        await super().end()
        for process in self.servers:
            process.kill()
            process.communicate()


class HostedRig(Rig):
    """The server is somebody else's and runs all the time; what is left is what it lists as loaded."""

    def __init__(self, folder, monkeypatch):
        super().__init__(folder)
        self.service = None

    def recipe(self, *faults, model="a", **more):
        if self.service is None:
            self.service = self.serve(*faults)
        own = self.entry.section(**self.table())
        words = {"served_name": self.served_name(model), "kind": "chat", "memory_mib": 1, "own": own} | more
        return Recipe(model=model, driver=self.name, **words)

    def left(self, slot=SLOT):
        return self.service.loaded()

    def of(self, server):
        return {server.launch.recipe.served_name}

    def kill(self, server):
        self.service.kill()

    async def end(self):
        await super().end()
        if self.service is not None:
            self.service.kill()


class OllamaRig(HostedRig):
    """An Ollama in which the models are pulled."""

    name = "ollama"
    entry = driver_entry_of("ollama")

    def serve(self, *faults):
        flags = {"slow": ("--load-delay", "1.5"), "stubborn": ("--load-delay", "0.1", "--unload-delay", "1.0")}
        return OllamaService(*(flag for fault in faults for flag in flags[fault]))

    def table(self):
        return {"url": self.service.url}

    def served_name(self, model):
        return f"{model}:latest"


class HttpRig(HostedRig):
    """A script's own server."""

    name = "http"
    entry = driver_entry_of("http")

    def serve(self, *faults):
        flags = {"slow": ("--load-delay", "1.5"), "stubborn": ("--load-delay", "0.1", "--unload-delay", "1.0")}
        return ControlService(*(flag for fault in faults for flag in flags[fault]))

    def table(self):
        return self.service.table()

    def served_name(self, model):
        return model


RIGS = {rig.name: rig for rig in (ProcessRig, AttachRig, OllamaRig, HttpRig)}
VARIANTS = {DoorRig.variant: DoorRig}
"""More ways in which one of these drivers works."""


@pytest.fixture(params=sorted(RIGS | VARIANTS))
async def rig(request, tmp_path, monkeypatch):
    made = (RIGS | VARIANTS)[request.param](tmp_path, monkeypatch)
    yield made
    await made.end()


@pytest.fixture
def able(rig):
    """Skips a test that asks for what the driver does not state."""

    def need(capability):
        if capability not in rig.worker()[1].capabilities:
            pytest.skip(f"the {rig.name} driver does not state {capability}")

    return need
