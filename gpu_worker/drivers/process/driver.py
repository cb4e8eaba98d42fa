"""The ``process`` driver: a model server as a child of its guardian, adopted by the next worker.

One spare guardian waits, started ahead of time, so that a load does not wait for an interpreter to start.
"""

import json
import shutil
import signal
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from pydantic import model_validator

from gpu_worker.drivers.port import (
    LAUNCH_KEYS,
    Capability,
    Driver,
    DriverEntry,
    DriverSettings,
    Launch,
    Recipe,
    RecipeInspection,
    Server,
)
from gpu_worker.drivers.process.guardian_line import GuardianLine, call_guardian, start_guardian
from gpu_worker.drivers.process.inspection import inspect
from gpu_worker.drivers.process.server import ProcessServer, ProcessSettings, command_fingerprint, kill, sweep
from gpu_worker.host import procfs
from schemas.config.source import Section

STATUS_DEADLINE_S = 3.0
"""A guardian that does not say who it is within this time is hung: it and its server are killed."""


class ProcessDriver(Driver):
    """Starts, adopts and sweeps the servers of this worker's slots."""

    capabilities: ClassVar[frozenset[Capability]] = frozenset({Capability.ADOPT, Capability.PROGRESS})

    def __init__(self, settings: ProcessSettings) -> None:
        self._settings = settings
        self._spare: GuardianLine | None = None
        self._servers: list[ProcessServer] = []

    def server(self, launch: Launch) -> Server:
        """See ``Driver``, as for all that follows."""
        self._servers = [server for server in self._servers if server.held]
        self._servers.append(server := ProcessServer(self._settings, self._take_guardian, launch))
        return server

    def inspect(self, recipe: Recipe) -> RecipeInspection:
        """Look at program and files."""
        return inspect(recipe, command_fingerprint(recipe), self._settings.search_path(recipe))

    async def prepare(self) -> None:
        """Have a spare guardian waiting."""
        if self._spare is None or not self._spare.open:
            self._spare = start_guardian()

    def _take_guardian(self) -> GuardianLine:
        """The spare guardian, or one started now."""
        line, self._spare = self._spare, None
        return line if line is not None and line.open else start_guardian()

    async def close(self) -> None:
        """Close all lines: each server's grace begins."""
        if self._spare is not None:
            self._spare.close()
        for server in self._servers:
            server.let_go()

    # --------------------------------------------------------------------------------------------------- adoption

    async def adopt(self, slot: str, recipes: Iterable[Recipe]) -> list[Server]:
        """Call every guardian that left a folder; keep who is unchanged, bury the rest, then look for strays."""
        known = {recipe.model: recipe for recipe in recipes}
        folder = self._settings.folder(slot)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        found = [await self._adopt_one(slot, directory, known) for directory in sorted(folder.iterdir())]
        adopted = [server for server in found if server is not None]
        self._servers += adopted
        await kill(lambda: self._strays(slot, adopted))
        return list(adopted)

    def _strays(self, slot: str, adopted: Iterable[ProcessServer]) -> set[int]:
        ours = [procfs.marked(server.mark) for server in adopted]
        return procfs.marked(self._settings.mark(slot)).difference(*ours)

    async def _adopt_one(self, slot: str, directory: Path, known: Mapping[str, Recipe]) -> ProcessServer | None:
        identity = _identity(directory)
        line = call_guardian(directory, (identity["guardian_pid"], identity["guardian_started"]))
        status = None
        if line is not None:
            line.say(do="status")
            status = await line.hear("status", within_s=STATUS_DEADLINE_S)
        note = (status or identity)["note"]
        recipe = known.get(note.get("model", ""))
        launch = Launch(
            slot=slot,
            recipe=recipe or Recipe(model="", served_name="", kind="", memory_mib=0),
            generation=int(directory.name) if directory.name.isdigit() else 0,
            key=_read_key(directory),
        )
        server = ProcessServer(self._settings, self._take_guardian, launch)
        server.directory = directory
        if line is not None and status is not None:
            line.guardian = (status["guardian_pid"], status["guardian_started"])
            server.adopted(line, status)
            if recipe is not None and status["exit"] is None and note["fingerprint"] == command_fingerprint(recipe):
                return server
        await self._bury(server, line, identity)
        return None

    async def _bury(self, server: ProcessServer, line: GuardianLine | None, identity: Mapping[str, Any]) -> None:
        """Kill what must not be adopted: through its guardian where that answers, by durable identity else."""
        if server.held:
            await server.stop(0.0)
            return
        if line is not None:
            line.close()
        if procfs.is_same(identity["guardian_pid"], identity["guardian_started"]):
            procfs.signal_all({identity["guardian_pid"]}, signal.SIGKILL)
        await sweep(server.mark, (identity["pid"], identity["pid_started"]))
        shutil.rmtree(server.directory, ignore_errors=True)


def _identity(directory: Path) -> dict[str, Any]:
    """The durable identity of a server; of nobody where it is missing, torn, or of another boot."""
    nobody = {"pid": 0, "pid_started": 0, "guardian_pid": 0, "guardian_started": 0, "note": {}}
    try:
        identity = json.loads((directory / "server.json").read_bytes())
        return nobody | identity if identity["boot_id"] == procfs.boot_id() else nobody
    except (OSError, ValueError, KeyError, TypeError):
        return nobody


def _read_key(directory: Path) -> str:
    try:
        return (directory / "key").read_text(encoding="utf-8").strip()
    except OSError:
        return ""


class ProcessSection(Section):
    """``[model.process]``: empty; what this driver reads is older than such tables, and stands in ``[[model]]``."""

    @model_validator(mode="before")
    @classmethod
    def _is_empty(cls, table: Any) -> Any:
        if table:
            raise ValueError(f"has no keys; write {', '.join(sorted(LAUNCH_KEYS))} into [[model]] itself")
        return table


def _make(settings: DriverSettings) -> Driver:
    return ProcessDriver(ProcessSettings.of(settings))


DRIVER = DriverEntry(make=_make, section=ProcessSection, reads=LAUNCH_KEYS)
