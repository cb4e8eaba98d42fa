"""What a driver is: a way to load, adopt and unload one kind of model server.

Rule: every verb is idempotent, and whoever cancels one in the middle may call any other next. The dispatcher keeps
its deadline; ``stop`` and ``adopt`` keep their own. Stopping works in any state, also while starting. Nothing here
comes from the wire but the model's name, its generation and its key: the rest is the host's own catalogue.

A driver's classes name ``Driver`` and ``Server`` as their bases, and leave out what they do not state as capability.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import ClassVar, Protocol
from urllib.parse import urlsplit

from gpu_worker.drivers.failing import Failing, ProcessEnd
from schemas.addresses import address_of
from schemas.config.drivers import DEFAULT_DRIVER
from schemas.config.source import Section


class Capability(StrEnum):
    """What a driver may be able to do beside loading and unloading; what it does not state is never asked of it."""

    ADOPT = "adopt"
    """Its servers outlive the worker, and the next worker takes them over."""
    PARK = "park"
    """It takes a model's weights off the device and puts them back while the server lives: ``park`` and ``wake``."""
    PROGRESS = "progress"
    """It tells how far a load has come."""
    FOOTPRINT = "footprint"
    """It tells how much of the device's memory a server holds."""


class IncapableError(Exception):
    """The driver does not state that capability; nothing was asked of it."""


class ParkError(Exception):
    """The server was not parked, or not woken; what it is now has to be asked of it, or it is stopped."""


class LoadError(Exception):
    """The server did not start; the message is for the report, ``failing`` says what that tells of the next try."""

    def __init__(self, message: str, failing: Failing) -> None:
        super().__init__(message)
        self.failing = failing


class StuckError(Exception):
    """Processes survived SIGKILL: they hang in the kernel and may still hold memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How this host runs one model: its catalogue entry, as plain values."""

    model: str
    served_name: str
    kind: str
    memory_mib: int
    driver: str = DEFAULT_DRIVER
    own: Section | None = None
    """The entry's table of that driver, as the driver's own section."""
    command: tuple[str, ...] = ()
    model_path: Path | None = None
    env: tuple[tuple[str, str], ...] = ()
    key: str = ""
    """How the server takes its key where the command does not say so by itself: see ``ModelEntry.key``."""
    health_path: str = "/health"
    load_timeout_s: float = 300.0
    stop_timeout_s: float = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """The files that a recipe loads."""

    size_bytes: int
    """Of all of them."""
    largest: Path
    device: int
    """Number of the file system on which that one lies."""
    start_s: float
    """What its start costs beside reading them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipeInspection:
    """What can be seen of a recipe without carrying it out."""

    stamp: str = ""
    """Changes with the recipe, its program and its files."""
    trouble: str = ""
    """Why it cannot be started as things are; empty when nothing is seen to be wrong."""
    weights: Weights | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """One order to start a server."""

    slot: str
    recipe: Recipe
    generation: int
    key: str = field(repr=False)
    """Generation key: the server accepts requests that bear it and no others."""


@dataclass(frozen=True, slots=True)
class Address:
    """Says where the worker speaks to a server: ``http://HOST:PORT``, or ``unix:///PATH`` of a socket on this host.

    Raises:
        ValueError: It is neither; the message does not repeat it.
    """

    url: str

    def __post_init__(self) -> None:
        """Look at it before anybody connects."""
        if self.url.startswith("unix://"):
            if not self.socket.startswith("/"):
                raise ValueError("must be unix:// and the whole path of a socket, with three slashes in a row")
            return
        parts = address_of(self.url, ("http", "unix"))
        if parts.port is None or parts.path.strip("/") or parts.query or parts.fragment:
            raise ValueError("must be http://, a host and a port, and nothing behind them")

    @classmethod
    def at(cls, host: str, port: int) -> "Address":
        """Name a TCP port of a host, which may be an IPv6 address."""
        return cls(f"http://{f'[{host}]' if ':' in host else host}:{port}")

    @property
    def socket(self) -> str:
        """Return the path of the socket, or nothing where it is a TCP port."""
        return self.url.removeprefix("unix://") if self.url.startswith("unix://") else ""

    @property
    def host(self) -> str:
        """Return the name or address to connect to."""
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        """Return the TCP port to connect to."""
        return urlsplit(self.url).port or 0

    @property
    def authority(self) -> str:
        """Return what a request's ``Host`` has to say."""
        return "localhost" if self.socket else urlsplit(self.url).netloc

    def __str__(self) -> str:
        return self.url


class Server(Protocol):
    """One model server, from before its start to after its end."""

    @property
    def launch(self) -> Launch:
        """What it was started for."""
        ...

    @property
    def address(self) -> Address:
        """Where the worker speaks to it; asked for after the start only."""
        ...

    @property
    def url(self) -> str:
        """Base URL of its OpenAI API, as brokers and clients reach it; asked for after the start only."""
        ...

    @property
    def health_path(self) -> str:
        """Answers 200 while it is ready: the entry's, unless its driver knows better."""
        return self.launch.recipe.health_path

    async def start(self) -> None:
        """Start it; returns once its program runs, or what runs was asked for the model, long before it is ready.

        Raises:
            LoadError: It could not be started; nothing is left of it.
        """
        ...

    def is_there(self) -> bool:
        """Is it this server that listens at its address? False while nobody does.

        Asked before every word to it: its key is for nobody else.

        Raises:
            StrangerError: Somebody else listens there (``gpu_worker.host.listeners``).
        """
        ...

    async def ended(self) -> ProcessEnd:
        """Wait (without a deadline: it may serve for weeks) until it is dead; answers how it died."""
        ...

    async def stop(self, grace_s: float) -> None:
        """Ask it to end, after ``grace_s`` end it; returns when nothing of it lives. 0: kill at once.

        Raises:
            StuckError: Something of it cannot be ended; said within some seconds after the grace.
        """
        ...

    def pids(self) -> set[int]:
        """All its living processes; none where they cannot be seen from here."""
        ...

    def worked_s(self) -> float | None:
        """Processor time of its processes so far, seconds; None where nobody can tell."""
        ...

    def last_words(self) -> str:
        """The last words it printed, for the error of a failed load: few, printable, without secrets."""
        ...

    # ------------------------------------------------------------------- asked of drivers that state the capability

    async def park(self) -> None:
        """Take its weights off the device; returns when its memory is given back.

        Parked already: returns at once. Cancelled: it is parked, or it is not, and ``wake`` and ``stop`` work.

        Raises:
            ParkError: It refused.
        """
        raise IncapableError(Capability.PARK)

    async def wake(self) -> None:
        """Put its weights back; returns when it can serve again. As with ``park`` else.

        Raises:
            ParkError: It refused, or its weights do not fit any more.
        """
        raise IncapableError(Capability.PARK)

    def progress_percent(self) -> int:
        """Tell how far its load has come, 0 to 99, at once from what is known here. Readiness alone says a hundred."""
        raise IncapableError(Capability.PROGRESS)

    def footprint_mib(self) -> int:
        """Tell what it holds of the device, MiB, at once from what is known here; 0 while it is not known."""
        raise IncapableError(Capability.FOOTPRINT)


class Driver(Protocol):
    """Makes servers of one kind for the slots of this worker."""

    capabilities: ClassVar[frozenset[Capability]] = frozenset()

    def server(self, launch: Launch) -> Server:
        """A server that is not started yet."""
        ...

    def inspect(self, recipe: Recipe) -> RecipeInspection:
        """Look at program and files without starting anything; may block as the file system does."""
        ...

    async def prepare(self) -> None:
        """Do ahead of time what a start would have to wait for."""
        return

    async def adopt(
        self,
        slot: str,  # noqa: ARG002 - for drivers that can
        recipes: Iterable[Recipe],  # noqa: ARG002 - for drivers that can
    ) -> list[Server]:
        """Servers of a former worker that are provably ours and unchanged; everything else of ours is killed.

        Asked once for each slot before anything is loaded there, also where the catalogue has no model of this driver
        any more: what it once started is its own to find.

        Raises:
            StuckError: Something of ours cannot be killed.
        """
        raise IncapableError(Capability.ADOPT)

    async def close(self) -> None:
        """Let go: running servers stay for the next worker to adopt."""
        return


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverSettings:
    """Tells every driver of its worker."""

    state_dir: Path
    adopt_grace_s: float = 60.0
    """A server outlives its worker by this."""
    bind_host: str = "127.0.0.1"
    """What servers listen on that are started here."""
    advertise_host: str = "127.0.0.1"
    """How brokers and clients reach those."""
    ports: range = range(0)
    """Ports to choose from; empty: any free one."""
    log_limit_bytes: int = 1 << 20
    environ: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The worker's own environment; most of it is nobody else's business."""
    devices: Mapping[str, str] = field(default_factory=dict)
    """Slot to UUID of the device its servers may see."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverEntry:
    """What a driver's file calls ``DRIVER``: all that configuration and worker need to know of it."""

    make: Callable[[DriverSettings], Driver]
    """Makes the worker's one driver of this kind; connects to nothing and reads nothing yet."""
    section: type[Section] = Section
    """Checks ``[model.NAME]``; the default is for a driver without keys of its own."""
    reads: frozenset[str] = frozenset()
    """Which of ``LAUNCH_KEYS`` it reads. One that reads ``command`` starts no model without."""


LAUNCH_KEYS = frozenset({"command", "model_path", "env", "key"})
"""Keys of ``[[model]]`` that are about starting a program; for a driver that starts none they would say nothing."""
