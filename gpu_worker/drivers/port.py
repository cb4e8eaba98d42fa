"""What a driver is: a way to start, adopt and stop one kind of model server.

Rule: every verb is idempotent and has a deadline; stopping works in any state, also while starting. Nothing here comes
from the wire but the model's name, its generation and its key: the rest is the host's own catalogue.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol


class LoadError(Exception):
    """The server did not start or did not become ready; the message is for the report."""


class StuckError(Exception):
    """Processes survived SIGKILL: they hang in the kernel and may still hold memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How this host runs one model: its catalogue entry, as plain values."""

    model: str
    command: tuple[str, ...]
    served_name: str
    kind: str
    memory_mib: int
    model_path: Path | None = None
    env: tuple[tuple[str, str], ...] = ()
    health_path: str = "/health"
    load_timeout_s: float = 300.0
    stop_timeout_s: float = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """One order to start a server."""

    slot: str
    recipe: Recipe
    generation: int
    key: str = field(repr=False)
    """Generation key: the server accepts requests that bear it and no others."""


class Server(Protocol):
    """One model server, from before its start to after its end."""

    @property
    def launch(self) -> Launch:
        """What it was started for."""
        ...

    @property
    def port(self) -> int:
        """Its TCP port on this host."""
        ...

    @property
    def pid(self) -> int:
        """Its main process; 0 before the start."""
        ...

    async def start(self) -> None:
        """Start it; returns once its program runs, long before it is ready.

        Raises:
            LoadError: It could not be started; nothing is left of it.
        """
        ...

    async def ended(self) -> str:
        """Wait (without a deadline: it may serve for weeks) until it is dead; answers how it died."""
        ...

    async def stop(self, grace_s: float) -> None:
        """SIGTERM, after ``grace_s`` SIGKILL; returns when nothing of it lives. 0: kill at once.

        Raises:
            StuckError: Something of it cannot be killed.
        """
        ...

    def pids(self) -> set[int]:
        """All its living processes."""
        ...

    def log_tail(self) -> str:
        """The last words it printed, for the error of a failed load."""
        ...


class Driver(Protocol):
    """Makes servers of one kind for the slots of this worker."""

    def server(self, launch: Launch) -> Server:
        """A server that is not started yet."""
        ...

    async def prepare(self) -> None:
        """Do ahead of time what a start would have to wait for."""
        ...

    async def adopt(self, slot: str, recipes: Iterable[Recipe]) -> list[Server]:
        """Servers of a former worker that are provably ours and unchanged; everything else of ours is killed."""
        ...

    async def close(self) -> None:
        """Let go: running servers stay for the next worker to adopt."""
        ...
