"""One model server of the ``process`` driver: its folder, its key, its guardian, its end.

The folder ``<slot>/servers/<generation>/`` of the state directory holds ``key`` (0600), ``guardian.sock``,
``server.json`` (durable identity) and ``server.log``.
"""

import asyncio
import hashlib
import os
import shutil
import signal
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from gpu_worker import procfs
from gpu_worker.drivers.guardian_line import Line
from gpu_worker.drivers.port import Launch, LoadError, Recipe, StuckError

START_DEADLINE_S = 10.0
"""From asking the guardian to the program running; exec is quick, a loaded host is not."""
SWEEP_DEADLINE_S = 5.0
"""What SIGKILL does not end in this time hangs in the kernel."""
STOP_SLACK_S = 12.0
"""Beyond a stop's grace the guardian has this long to answer before it is killed itself."""
EXIT_DEADLINE_S = 1.0
"""From a guardian's last word to its exit."""
LOG_TAIL_BYTES = 600

INHERITED = frozenset({
    "PATH", "HOME", "USER", "LANG", "LC_ALL", "TZ", "TMPDIR", "XDG_CACHE_HOME", "LD_LIBRARY_PATH", "HF_HOME",
    "CUDA_VISIBLE_DEVICES", "CUDA_HOME", "NVIDIA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES",
    "VK_ICD_FILENAMES", "VK_DRIVER_FILES", "OMP_NUM_THREADS",
})  # fmt: skip
"""All a server inherits of the worker's environment; the rest may hold secrets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessSettings:
    """What the driver needs to know of the worker's configuration."""

    state_dir: Path
    adopt_grace_s: float = 60.0
    bind_host: str = "127.0.0.1"
    ports: range = range(0)
    """Ports to choose from; empty: any free one."""
    log_limit_bytes: int = 1 << 20
    environ: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The worker's own environment, of which servers get the allowed part."""
    devices: Mapping[str, str] = field(default_factory=dict)
    """Slot to UUID of the device its servers may see."""

    def folder(self, slot: str) -> Path:
        """Where the servers of a slot have their folders."""
        return self.state_dir.absolute() / quote(slot, safe="") / "servers"

    def mark(self, slot: str) -> bytes:
        """What all processes of a slot of this worker bear in their environment."""
        home = hashlib.sha256(str(self.state_dir.absolute()).encode()).hexdigest()[:16]
        return f"{home}/{quote(slot, safe='')}/".encode()

    def environment(self, launch: Launch, mark: bytes) -> dict[str, str]:
        """The allowed part of ours, the catalogue's, the device and the mark."""
        env = {name: value for name, value in self.environ.items() if name in INHERITED}
        env |= dict(launch.recipe.env)
        if uuid := self.devices.get(launch.slot):
            env["CUDA_VISIBLE_DEVICES"] = uuid
        return env | {procfs.MARK_VARIABLE.decode().rstrip("="): mark.decode()}


class ProcessServer:
    """One model server under its guardian."""

    def __init__(self, settings: ProcessSettings, take_guardian: Callable[[], Line], launch: Launch) -> None:
        self._settings = settings
        self._take_guardian = take_guardian
        self._launch = launch
        self._line: Line | None = None
        self._stopping = asyncio.Lock()
        self._pid = (0, 0)
        self._port = 0
        self.directory = settings.folder(launch.slot) / str(launch.generation)

    @property
    def launch(self) -> Launch:
        """What it was started for."""
        return self._launch

    @property
    def port(self) -> int:
        """See ``Server``, as for all that follows."""
        return self._port

    @property
    def pid(self) -> int:
        """Main process."""
        return self._pid[0]

    @property
    def mark(self) -> bytes:
        """What its processes bear in their environment."""
        return self._settings.mark(self._launch.slot) + f"{self._launch.generation}:".encode()

    async def start(self) -> None:
        """Write the key, ask a guardian to start the program."""
        line = self._take_guardian()
        self._line = line
        try:
            line.say(do="start", **self._start_message())
        except LoadError:
            await self.stop(0.0)
            raise
        answer = await line.hear("started", "start_failed", within_s=START_DEADLINE_S)
        if answer is None or answer["event"] != "started":
            await self.stop(0.0)
            raise LoadError((answer or {}).get("error", "the guardian did not answer"))
        self._pid = (answer["pid"], answer["pid_started"])
        line.guardian = (answer["guardian_pid"], answer["guardian_started"])

    def _start_message(self) -> dict[str, Any]:
        settings, recipe = self._settings, self._launch.recipe
        shutil.rmtree(self.directory, ignore_errors=True)
        self.directory.mkdir(parents=True, mode=0o700)
        key_file = self.directory / "key"
        with os.fdopen(os.open(key_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(self._launch.key + "\n")
        self._port = free_port(settings.bind_host, settings.ports)
        env = settings.environment(self._launch, self.mark)
        fillings = {
            "host": settings.bind_host,
            "port": str(self._port),
            "model_path": str(recipe.model_path),
            "served_name": recipe.served_name,
            "api_key_file": str(key_file),
        }
        return {
            "argv": _argv(recipe.command, fillings, env.get("PATH")),
            "env": env,
            "directory": str(self.directory),
            "adopt_grace_s": settings.adopt_grace_s,
            "log_limit_bytes": settings.log_limit_bytes,
            "note": {
                "slot": self._launch.slot,
                "model": recipe.model,
                "generation": self._launch.generation,
                "port": self._port,
                "fingerprint": fingerprint(recipe),
                "stop_timeout_s": recipe.stop_timeout_s,
            },
        }

    def adopted(self, line: Line, status: Mapping[str, Any]) -> None:
        """Take over a running server from its guardian's word."""
        self._line = line
        self._pid = (status["pid"], status["pid_started"])
        self._port = status["note"]["port"]

    async def ended(self) -> str:
        """Wait for the death of the main process."""
        if self._line is None:
            return "was stopped"
        event = await self._line.hear("exited", within_s=None)
        if event is None:
            return "its guardian was killed"
        status = int(event["status"])
        return f"killed by {signal.Signals(-status).name}" if status < 0 else f"exited with status {status}"

    async def stop(self, grace_s: float) -> None:
        """Through the guardian; by durable identity where that does not answer."""
        async with self._stopping:
            if self._line is not None and not await self._stopped_by_guardian(self._line, grace_s):
                await sweep(self.mark, self._pid)
            shutil.rmtree(self.directory, ignore_errors=True)
            self._line = None

    async def _stopped_by_guardian(self, line: Line, grace_s: float) -> bool:
        line.say(do="stop", grace_s=grace_s)
        event = await line.hear("gone", "stuck", within_s=grace_s + STOP_SLACK_S)
        if event is None and line.open and procfs.is_same(*line.guardian):
            guardian = line.guardian[0]
            procfs.signal_all({guardian} | procfs.descendants(guardian), signal.SIGKILL)
        await line.closed(within_s=EXIT_DEADLINE_S)
        line.close()
        return event is not None and event["event"] == "gone"

    @property
    def held(self) -> bool:
        """Whether we hold its line: it was started or adopted and not stopped."""
        return self._line is not None

    def let_go(self) -> None:
        """Close the line: the server's grace begins."""
        if self._line is not None:
            self._line.close()

    def pids(self) -> set[int]:
        """The main process and what it forked."""
        if not procfs.is_same(*self._pid):
            return set()
        return {self.pid} | procfs.descendants(self.pid)

    def log_tail(self) -> str:
        """Last lines of the log, in one, without the key."""
        try:
            data = (self.directory / "server.log").read_bytes()[-LOG_TAIL_BYTES:]
        except OSError:
            return ""
        text = data.decode("utf-8", "replace").replace(self._launch.key, "[key]")
        lines = ["".join(c for c in line if c.isprintable()).strip() for line in text.splitlines()]
        return " | ".join(line for line in lines if line)


async def sweep(mark: bytes, leader: tuple[int, int]) -> None:
    """Kill every process that bears the mark or is of the leader's group.

    A group's number is not given out again while anybody is in it, so the group of a dead leader is still its own.

    Raises:
        StuckError: Some survive SIGKILL.
    """
    pid, started = leader
    await kill(lambda: procfs.marked(mark) | (procfs.members(pid) if _is_or_was(pid, started) else set()))


async def kill(victims: Callable[[], set[int]]) -> None:
    """SIGKILL until nobody is left.

    Raises:
        StuckError: Some survive it.
    """
    deadline_s = time.monotonic() + SWEEP_DEADLINE_S
    while pids := victims():
        if time.monotonic() > deadline_s:
            raise StuckError(f"cannot be killed: {' '.join(str(pid) for pid in sorted(pids))}")
        procfs.signal_all(pids, signal.SIGKILL)
        await asyncio.sleep(0.01)


def fingerprint(recipe: Recipe) -> str:
    """Changes when the catalogue would start the server differently: such a server is not adopted."""
    parts = (recipe.command, str(recipe.model_path), recipe.served_name, recipe.env)
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def free_port(host: str, ports: range) -> int:
    """A port nobody listens on now. Another process may take it before the server does: then the load fails.

    Raises:
        LoadError: All configured ports are taken.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for port in ports or (0,):
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise LoadError(f"no free port on {host}")


def _argv(command: tuple[str, ...], fillings: Mapping[str, str], path: str | None) -> list[str]:
    words = list(command)
    for name, value in fillings.items():
        words = [word.replace(f"{{{name}}}", value) for word in words]
    program = shutil.which(words[0], path=path) if words else None
    if program is None:
        raise LoadError(f"program not found: {words[0] if words else '(no command)'}")
    return [program, *words[1:]]


def _is_or_was(pid: int, started: int) -> bool:
    return pid > 0 and (procfs.is_same(pid, started) or procfs.start_of(pid) == 0)
