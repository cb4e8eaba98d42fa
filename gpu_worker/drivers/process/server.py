"""One model server of the ``process`` driver: its folder, its key, its guardian, its end.

The folder ``<slot>/servers/<generation>/`` of the state directory holds ``key`` (0600), ``guardian.sock``,
``server.json`` (durable identity), ``server.log``, and ``server.sock`` where the server listens there behind a door.
"""

import asyncio
import errno
import hashlib
import os
import re
import shutil
import signal
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any
from urllib.parse import quote

from gpu_worker.drivers.failing import Failing, ProcessEnd
from gpu_worker.drivers.last_words import READ_BYTES, last_words, secrets_of
from gpu_worker.drivers.port import Address, DriverSettings, Launch, LoadError, Recipe, Server, StuckError
from gpu_worker.drivers.process.door import KEYLESS, LOOPBACK, Inside
from gpu_worker.drivers.process.guardian_line import GuardianLine
from gpu_worker.drivers.process.inspection import no_program, program_of
from gpu_worker.drivers.process.progress import progress_percent
from gpu_worker.host import procfs
from gpu_worker.host.listeners import Ownership

START_DEADLINE_S = 10.0
"""From asking the guardian to the program running; exec is quick, a loaded host is not."""
SWEEP_DEADLINE_S = 5.0
"""What SIGKILL does not end in this time hangs in the kernel."""
STOP_SLACK_S = 12.0
"""Beyond a stop's grace the guardian has this long to answer before it is killed itself."""
EXIT_DEADLINE_S = 1.0
"""From a guardian's last word to its exit."""
PASSING_ERRNOS = frozenset(
    {errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ETXTBSY, errno.ENOSPC, errno.EDQUOT, errno.EIO}
    | {errno.EADDRINUSE}
)
"""Refusals of the system that are the host's doing and pass."""
_LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}
IN_ENVIRONMENT = "environment:"
"""Begins the ``key`` of a model whose server takes its key so; the variable's name follows."""
_PLACE = re.compile(r"\{([a-z_]+)\}")

INHERITED = frozenset({
    "PATH", "HOME", "USER", "LANG", "LC_ALL", "TZ", "TMPDIR", "XDG_CACHE_HOME", "LD_LIBRARY_PATH", "HF_HOME",
    "CUDA_VISIBLE_DEVICES", "CUDA_HOME", "NVIDIA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES",
    "VK_ICD_FILENAMES", "VK_DRIVER_FILES", "OMP_NUM_THREADS",
})  # fmt: skip
"""All a server inherits of the worker's environment; the rest may hold secrets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessSettings(DriverSettings):
    """Adds what follows from what the driver is told of its worker."""

    @classmethod
    def of(cls, told: DriverSettings) -> "ProcessSettings":
        """Take over what every driver is told."""
        return cls(**{one.name: getattr(told, one.name) for one in fields(DriverSettings)})

    @property
    def own_host(self) -> str:
        """Return where this host reaches what listens on ``bind_host``."""
        return _LOOPBACK.get(self.bind_host, self.bind_host)

    def folder(self, slot: str) -> Path:
        """Where the servers of a slot have their folders."""
        return self.state_dir.absolute() / quote(slot, safe="") / "servers"

    def mark(self, slot: str) -> bytes:
        """What all processes of a slot of this worker bear in their environment."""
        home = hashlib.sha256(str(self.state_dir.absolute()).encode()).hexdigest()[:16]
        return f"{home}/{quote(slot, safe='')}/".encode()

    def search_path(self, recipe: Recipe) -> str | None:
        """Where a recipe's program is looked for."""
        return dict(recipe.env).get("PATH", self.environ.get("PATH"))

    def environment(self, launch: Launch, mark: bytes, fillings: Mapping[str, str]) -> dict[str, str]:
        """The allowed part of ours, the catalogue's filled in, the device and the mark."""
        env = {name: value for name, value in self.environ.items() if name in INHERITED}
        env |= {name: _filled(value, fillings) for name, value in launch.recipe.env}
        if launch.recipe.key.startswith(IN_ENVIRONMENT):
            env[launch.recipe.key.removeprefix(IN_ENVIRONMENT)] = launch.key
        if uuid := self.devices.get(launch.slot):
            env["CUDA_VISIBLE_DEVICES"] = uuid
        return env | {procfs.MARK_VARIABLE.decode().rstrip("="): mark.decode()}


class ProcessServer(Server):
    """One model server under its guardian."""

    def __init__(self, settings: ProcessSettings, take_guardian: Callable[[], GuardianLine], launch: Launch) -> None:
        self._settings = settings
        self._take_guardian = take_guardian
        self._launch = launch
        self._line: GuardianLine | None = None
        self._starting, self._stopping = asyncio.Lock(), asyncio.Lock()
        self._stopped = False
        self._pid = (0, 0)
        self._port = 0
        self._ownership: Ownership | None = None
        self._inside: Inside | None = None
        self._door = (0, 0)
        self.directory = settings.folder(launch.slot) / str(launch.generation)

    @property
    def launch(self) -> Launch:
        """What it was started for."""
        return self._launch

    @property
    def address(self) -> Address:
        """See ``Server``, as for all that follows."""
        return Address.at(self._settings.own_host, self._port)

    @property
    def url(self) -> str:
        """Name the port as others call the worker's host."""
        return f"{Address.at(self._settings.advertise_host, self._port)}/v1"

    @property
    def mark(self) -> bytes:
        """What its processes bear in their environment."""
        return self._settings.mark(self._launch.slot) + f"{self._launch.generation}:".encode()

    async def start(self) -> None:
        """Ask a guardian to start the program, once; who asks again waits for that start."""
        async with self._starting:
            if self._stopped:
                raise LoadError("it was stopped before its start", Failing.PASSING)
            if self._pid[0]:
                return
            line = self._line or await self._ask_guardian()
            answer = await line.hear("started", "start_failed", within_s=START_DEADLINE_S)
            if answer is None or answer["event"] != "started":
                await self.stop(0.0)
                raise _refused(answer)
            self._pid = (answer["pid"], answer["pid_started"])
            self._door = (answer["door_pid"], answer["door_pid_started"])
            line.guardian = (answer["guardian_pid"], answer["guardian_started"])

    async def _ask_guardian(self) -> GuardianLine:
        self._line = line = self._take_guardian()
        try:
            line.say(do="start", **self._start_message())
        except OSError as error:
            await self.stop(0.0)
            raise LoadError(f"state_dir: {error.strerror}", Failing.HOST) from error
        except LoadError:
            await self.stop(0.0)
            raise
        return line

    def _start_message(self) -> dict[str, Any]:
        settings, recipe = self._settings, self._launch.recipe
        shutil.rmtree(self.directory, ignore_errors=True)
        self.directory.mkdir(parents=True, mode=0o700)
        key_file = self.directory / "key"
        with os.fdopen(os.open(key_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(self._launch.key + "\n")
        self._port = free_port(settings.bind_host, settings.ports)
        self._inside = inside = self._inside_of(recipe) if recipe.key == KEYLESS else None
        fillings: dict[str, str] = {
            "host": settings.bind_host,
            "port": str(self._port),
            "model_path": str(recipe.model_path),
            "served_name": recipe.served_name,
            "api_key_file": str(key_file),
            "api_key": self._launch.key,
        } | (dict(inside.fillings) if inside is not None else {})
        env = settings.environment(self._launch, self.mark, fillings)
        return {
            "argv": _argv(recipe.command, fillings, settings.search_path(recipe)),
            "env": env,
            "door": None if inside is None else self._order(inside),
            "directory": str(self.directory),
            "adopt_grace_s": settings.adopt_grace_s,
            "log_limit_bytes": settings.log_limit_bytes,
            "note": {
                "slot": self._launch.slot,
                "model": recipe.model,
                "generation": self._launch.generation,
                "port": self._port,
                "inside": None if inside is None else inside.note,
                "fingerprint": command_fingerprint(recipe),
                "stop_timeout_s": recipe.stop_timeout_s,
            },
        }

    def _inside_of(self, recipe: Recipe) -> Inside:
        """Choose where a server without keys listens: nobody is told, and where it can be, nobody else can connect."""
        asked = " ".join((*recipe.command, *(value for _, value in recipe.env)))
        if "{socket}" in asked:
            inside = Inside(self._family, socket=str(self.directory / "server.sock"))
        else:
            inside = Inside(self._family, port=free_port(LOOPBACK, range(0)))
        inside.check()
        return inside

    def _order(self, inside: Inside) -> Mapping[str, Any]:
        bear = {procfs.MARK_VARIABLE.decode().rstrip("="): self.mark.decode()}
        return inside.order(host=self._settings.bind_host, port=self._port, key=self._launch.key, env=bear)

    def adopted(self, line: GuardianLine, status: Mapping[str, Any]) -> None:
        """Take over a running server from its guardian's word."""
        self._line = line
        self._pid = (status["pid"], status["pid_started"])
        self._door = (status.get("door_pid", 0), status.get("door_pid_started", 0))
        self._port = status["note"]["port"]
        self._inside = Inside.of_note(status["note"], self._family)

    async def ended(self) -> ProcessEnd:
        """Wait for the death of the main process."""
        if self._line is None:
            return ProcessEnd(told="was stopped")
        event = await self._line.hear("exited", within_s=None)
        if event is None:
            return ProcessEnd(told="its guardian was killed")
        end = ProcessEnd(status=int(event["status"]))
        return ProcessEnd(told=f"its door died: {end}") if event.get("who") == "door" else end

    async def stop(self, grace_s: float) -> None:
        """Through the guardian; by durable identity where that does not answer."""
        self._stopped = True
        async with self._stopping:
            if self._line is not None and not await self._stopped_by_guardian(self._line, grace_s):
                await sweep(self.mark, self._pid)
            shutil.rmtree(self.directory, ignore_errors=True)
            self._line = None

    async def _stopped_by_guardian(self, line: GuardianLine, grace_s: float) -> bool:
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

    def is_there(self) -> bool:
        """Prove it by the sockets of its processes."""
        if self._ownership is None:
            self._ownership = Ownership(self._settings.own_host, self._port, self._family)
        return self._ownership.is_there() and (self._inside is None or self._inside.is_there())

    def pids(self) -> set[int]:
        """The main process and what it forked, and the door in front of it."""
        door = {self._door[0]} if procfs.is_same(*self._door) else set()
        if not procfs.is_same(*self._pid):
            return door
        return door | {self._pid[0]} | procfs.descendants(self._pid[0])

    def _family(self) -> set[int]:
        """Find all that its guardian has started: their sockets are its own, whoever left its parents."""
        if self._line is None or not procfs.is_same(*self._line.guardian):
            return self.pids()
        return procfs.descendants(self._line.guardian[0]) | self.pids()

    def worked_s(self) -> float:
        """Count for all that its guardian has started."""
        return procfs.worked_s(self._family())

    def progress_percent(self) -> int:
        """Tell it by what its main process has read."""
        return progress_percent(self._pid[0], self._launch.recipe.model_path)

    def last_words(self) -> str:
        """Return what stands last in its log."""
        try:
            with (self.directory / "server.log").open("rb") as log:
                size = log.seek(0, os.SEEK_END)
                log.seek(max(0, size - READ_BYTES))
                end = log.read(READ_BYTES)
        except OSError:
            return ""
        recipe = self._launch.recipe
        secrets = secrets_of(recipe.command, dict(recipe.env), self._launch.key)
        return last_words(end, secrets, whole=size <= READ_BYTES)


def _refused(answer: Mapping[str, Any] | None) -> LoadError:
    """The system did not execute the program, or the guardian did not answer."""
    if answer is None:
        return LoadError("the guardian did not answer", Failing.HOST)
    failing = Failing.HOST if answer.get("errno") in PASSING_ERRNOS else Failing.PERMANENT
    return LoadError(answer["error"], failing)


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


def command_fingerprint(recipe: Recipe) -> str:
    """Changes when the catalogue would start the server differently: such a server is not adopted."""
    parts: tuple[object, ...] = (recipe.command, str(recipe.model_path), recipe.served_name, recipe.env)
    if recipe.key:  # without, as it was before there was a choice: an upgrade ends no server
        parts += (recipe.key,)
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
    raise LoadError(f"no free port on {host}", Failing.HOST)


def _argv(command: tuple[str, ...], fillings: Mapping[str, str], path: str | None) -> list[str]:
    words = [_filled(word, fillings) for word in command]
    program = program_of(tuple(words), path)
    if program is None:
        raise LoadError(no_program(tuple(words)), Failing.PERMANENT)
    return [program, *words[1:]]


def _filled(text: str, fillings: Mapping[str, str]) -> str:
    return _PLACE.sub(lambda place: fillings.get(place[1], place[0]), text)


def _is_or_was(pid: int, started: int) -> bool:
    return pid > 0 and (procfs.is_same(pid, started) or procfs.start_of(pid) == 0)
