"""What drivers share whose model servers are somebody else's service, and load and unload models when asked by API.

Rule: nothing is started here and nothing is killed. What is loaded is what the server says; what of it is ours is what
a note says, which is written before the server is asked and goes after it was seen to be unloaded. So whoever dies at
any step leaves either nothing or what the next worker finds. The server itself knows no load's key: whoever reaches it
uses it (docs/drivers.md).
"""

import asyncio
import hashlib
import json
import logging
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote

from pydantic import ValidationError, field_validator

from gpu_worker.drivers.failing import Failing, ProcessEnd
from gpu_worker.drivers.port import (
    Address,
    Capability,
    Driver,
    DriverSettings,
    Launch,
    LoadError,
    Recipe,
    RecipeInspection,
    Server,
    StuckError,
)
from gpu_worker.host.durable import write_durably
from gpu_worker.host.http_calls import CallAnswer, CallError, CallTimeoutError, NobodyThereError, call
from schemas.addresses import secret_in
from schemas.config.source import Section

ASK_TIMEOUT_S = 5.0
"""Of everything but the load itself."""
LOAD_TIMEOUT_S = 2 * 3600.0
"""Of the load; the dispatcher's own deadline is shorter, and hangs up."""
WATCH_S = 1.0
"""A loaded model is looked for this often."""
MISSES = 2
"""It is gone when it was not there so often in a row."""
FIRST_POLL_S, SLOWEST_POLL_S = 0.02, 0.5
STOP_SLACK_S = 5.0
"""Beyond a stop's grace the server has this long to have unloaded; then the slot has a fault, and it is asked again."""
SETTLE_S = 3.0
"""So long after a load whose end nobody saw the model may still turn up."""
DEFAULT_HEALTH_PATH = "/health"
"""An entry that does not say otherwise has this one."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelStatus:
    """What the server says of one model."""

    is_loaded: bool
    is_present: bool = False
    """Also while it is loading or unloading, where the server tells that."""
    mib: int = 0
    """Held of the device, as the server tells it; 0: not told."""
    percent: int = 0
    """How far its load has come; 0: not told."""
    picked: str = ""
    """What the server calls this loading of it, where an unload has to say so."""

    @property
    def is_held(self) -> bool:
        """Does the server hold anything of it?"""
        return self.is_loaded or self.is_present


NOT_LOADED = ModelStatus(is_loaded=False)


class HostedSection(Section):
    """What ``[model.NAME]`` says for every such driver."""

    url: str
    """Of the server, as this worker reaches it: ``http://HOST:PORT``, or ``unix:///PATH``."""
    advertise_url: str | None = None
    """The same as brokers and clients reach it. None: as this worker does."""
    api_key_file: Path | None = None
    """First line: the key that the server wants to see before it loads or unloads. None: it wants none."""

    @field_validator("url")
    @classmethod
    def _is_an_address(cls, url: str) -> str:
        return str(Address(url.rstrip("/") if url.startswith("http") else url))

    @field_validator("advertise_url")
    @classmethod
    def _is_a_tcp_address(cls, url: str | None) -> str | None:
        if url is None:
            return None
        if Address(url.rstrip("/")).socket:
            raise ValueError("must be http://: nobody else reaches a socket of this host")
        return url.rstrip("/")

    def bearer(self) -> str:
        """Return the key to show, read anew: whoever changes it restarts nothing.

        Raises:
            CallError: The file cannot be read.
        """
        try:
            return secret_in(self.api_key_file) if self.api_key_file is not None else ""
        except ValueError as error:
            raise CallError(f"api_key_file: {error}") from None


class HostedApi(ABC):
    """One model of one server: the few questions in which such servers differ."""

    health_path = DEFAULT_HEALTH_PATH
    """Answers 200 while the server lives; an entry's own ``health_path`` wins."""
    gives_up = True
    """Does it give up a load whose caller hangs up? One that does not has to be waited for before it can unload."""

    answers_loaded = True
    """Does it answer when it has loaded, and not when it begins?"""

    def __init__(self, recipe: Recipe) -> None:
        assert isinstance(recipe.own, HostedSection)
        self.recipe, self.section = recipe, recipe.own

    @abstractmethod
    async def look(self) -> ModelStatus:
        """Ask what it says of the model.

        Raises:
            CallError: It says nothing.
        """

    @abstractmethod
    async def load(self, seen: ModelStatus) -> None:
        """Ask it to load, also what is loaded; returns when it has, or has begun.

        Raises:
            LoadError: It refused.
            CallError: It says nothing.
        """

    @abstractmethod
    async def unload(self, seen: ModelStatus) -> None:
        """Ask it to unload; whether it did is looked at afterwards.

        Raises:
            CallError: It says nothing, or refused.
        """

    async def ask(self, method: str, path: str, *, body: object = None, timeout_s: float = ASK_TIMEOUT_S) -> CallAnswer:
        """Ask the server anything."""
        bearer = self.section.bearer()
        return await call(self.section.url, method, path, body=body, bearer=bearer, timeout_s=timeout_s)


class Note:
    """Says on the disk that a model was asked for, by whom and how: before it is, and until it was seen to be gone."""

    def __init__(self, folder: Path, generation: int) -> None:
        self._folder, self._name = folder, f"{generation}.json"

    def write(self, launch: Launch, *, loaded: bool) -> None:
        """Keep it, also through a crash of the host; it holds the load's key and is the worker's alone."""
        recipe = launch.recipe
        told = {
            "model": recipe.model,
            "served_name": recipe.served_name,
            "kind": recipe.kind,
            "own": recipe.own.model_dump(mode="json", exclude_none=True) if recipe.own is not None else {},
            "fingerprint": fingerprint_of(recipe),
            "key": launch.key,
            "loaded": loaded,
        }
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        directory = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            write_durably(directory, self._name, json.dumps(told).encode())
        finally:
            os.close(directory)

    def read(self) -> Mapping[str, Any]:
        """Return what it says; nothing where it is torn."""
        try:
            told = json.loads((self._folder / self._name).read_bytes())
        except (OSError, ValueError):
            return {}
        return told if isinstance(told, dict) else {}

    def remove(self) -> None:
        """Nothing of it is left."""
        (self._folder / self._name).unlink(missing_ok=True)


class HostedServer(Server):
    """One model at somebody else's server, from before it is asked for to after it was seen to be gone."""

    def __init__(self, api: HostedApi, launch: Launch, note: Note) -> None:
        self._api, self._launch, self._note = api, launch, note
        self._starting, self._stopping = asyncio.Lock(), asyncio.Lock()
        self._work: asyncio.Task[None] | None = None
        self._asked = self._answered = self._loaded = self._stopped = False
        self._gone = asyncio.Event()
        self._seen = NOT_LOADED

    @property
    def launch(self) -> Launch:
        """What it was loaded for."""
        return self._launch

    @property
    def address(self) -> Address:
        """See ``Server``, as for all that follows."""
        return Address(self._api.section.url)

    @property
    def url(self) -> str:
        """Name the server as others call it."""
        return f"{self._api.section.advertise_url or self._api.section.url}/v1"

    @property
    def health_path(self) -> str:
        """Take the entry's, else what this kind of server has."""
        own = self._launch.recipe.health_path
        return own if own != DEFAULT_HEALTH_PATH else self._api.health_path

    # --------------------------------------------------------------------------------------------------------- load

    async def start(self) -> None:
        """Ask for the model and wait until the server says that it is loaded, once; who asks again waits for that."""
        async with self._starting:
            if self._stopped:
                raise LoadError("it was stopped before its start", Failing.PASSING)
            if self._loaded:
                return
            if self._work is None or self._work.done():
                self._work = asyncio.create_task(self._load())
            work = self._work
            try:
                await (work if self._api.gives_up else asyncio.shield(work))
            except asyncio.CancelledError:
                if _is_cancelled():  # else it is a stop that has ended the work
                    raise
                raise LoadError("it was stopped while it loaded", Failing.PASSING) from None
            except LoadError:
                with suppress(StuckError):
                    await self._unload(0.0)
                raise

    async def _load(self) -> None:
        self._asked, self._answered = True, False
        try:
            self._note.write(self._launch, loaded=False)
            self._seen = await self._api.look()
            await self._api.load(self._seen)
            self._answered = True
            await self._until_loaded()
            self._note.write(self._launch, loaded=True)
        except OSError as error:
            raise LoadError(f"state_dir: {error.strerror or error}", Failing.HOST) from error
        except NobodyThereError as error:
            raise LoadError(str(error), Failing.HOST) from error
        except CallError as error:
            raise LoadError(str(error), Failing.PASSING) from error
        self._loaded = True

    async def _until_loaded(self) -> None:
        """Wait until it is listed, for ever where that is the load itself: the deadline is the dispatcher's."""
        pause_s, deadline_s = FIRST_POLL_S, time.monotonic() + SETTLE_S
        while time.monotonic() < deadline_s or not self._api.answers_loaded:
            with suppress(CallTimeoutError):  # busy with the load
                self._seen = await self._api.look()
                if self._seen.is_loaded:
                    return
            await asyncio.sleep(pause_s)
            pause_s = min(SLOWEST_POLL_S, 1.5 * pause_s)
        name = self._launch.recipe.served_name
        told = f"{self.address} says that it loaded {name} and does not list it: somebody else unloaded it at once"
        raise LoadError(told, Failing.PASSING)

    def adopted(self, seen: ModelStatus) -> None:
        """It is loaded already, for a former worker."""
        self._asked = self._loaded = True
        self._seen = seen

    # -------------------------------------------------------------------------------------------------------- watch

    def is_there(self) -> bool:
        """Take whoever listens at the address that the operator wrote down, once the model is loaded there."""
        return self._loaded and not self._stopped

    async def ended(self) -> ProcessEnd:
        """Wait until the server does not list the model any more, or is gone itself."""
        missed = 0
        while not self._stopped:
            told = await self._missing()
            missed = missed + 1 if told else 0
            if missed >= MISSES:
                self._loaded = False
                return ProcessEnd(told=told)
            with suppress(TimeoutError):
                async with asyncio.timeout(WATCH_S):
                    await self._gone.wait()
        await self._gone.wait()
        return ProcessEnd(told="was unloaded")

    async def _missing(self) -> str:
        """Say why it is not to be had; nothing while it is, or while the server is silent: probes see to that."""
        if not self._loaded:
            return ""
        try:
            self._seen = await self._api.look()
        except CallTimeoutError:
            return ""
        except CallError as error:
            return str(error)
        if self._seen.is_loaded:
            return ""
        return f"{self.address} does not list it any more: somebody else unloaded it, or its room was needed there"

    def pids(self) -> set[int]:
        """Name none: what the server's processes hold is of all its models."""
        return set()

    def worked_s(self) -> float | None:
        """Tell nothing, for the same reason."""
        return None

    def last_words(self) -> str:
        """Repeat what it said about a refused load; that is in the error already."""
        return ""

    def progress_percent(self) -> int:
        """Tell what the server tells."""
        return min(99, max(0, self._seen.percent))

    def footprint_mib(self) -> int:
        """Tell what the server tells."""
        return self._seen.mib if self._seen.is_loaded else 0

    # --------------------------------------------------------------------------------------------------------- stop

    async def stop(self, grace_s: float) -> None:
        """Ask for the unload until the server does not list it; requests that run there are its own to end."""
        self._stopped = True
        deadline_s = time.monotonic() + grace_s + STOP_SLACK_S
        async with self._stopping:
            await self._until_no_load_runs(deadline_s)
            await self._unload(deadline_s - time.monotonic())
            self._loaded = False
            self._gone.set()

    async def _until_no_load_runs(self, deadline_s: float) -> None:
        work = self._work
        if work is None or work.done():
            return
        if self._api.gives_up or self._answered:
            work.cancel()
        await asyncio.wait({work}, timeout=max(0.0, deadline_s - time.monotonic()))
        if not work.done():
            raise StuckError(f"{self.address} is still loading {self._launch.recipe.model} and cannot be told to stop")

    async def _unload(self, within_s: float) -> None:
        if self._asked:
            await until_unloaded(self._api, within_s, is_seen=self._loaded)
            self._note.remove()
            self._asked = False


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def until_unloaded(api: HostedApi, within_s: float, *, is_seen: bool = True) -> None:
    """Ask for the unload until it is done. Where nobody listens nothing is loaded.

    Args:
        api: Whom to ask.
        within_s: How long, seconds; at least once.
        is_seen: Whether the end of its load was seen: if not it may be loading unlisted, and is asked for anyhow.

    Raises:
        StuckError: The server still lists it, or says nothing, when the time is up.
    """
    deadline_s = time.monotonic() + max(0.0, within_s)
    pause_s, why = FIRST_POLL_S, ""
    while True:
        try:
            seen = await api.look()
            if not seen.is_held and not is_seen:
                is_seen = True
                with suppress(CallError):  # there is nothing to unload, says one server or another
                    await api.unload(seen)
                seen = await api.look()
            if not seen.is_held:
                return
            why = f"{api.section.url} still lists {api.recipe.served_name} as loaded"
            await api.unload(seen)
            if not (await api.look()).is_held:
                return
        except NobodyThereError:
            return
        except CallError as error:
            why = str(error)
        if time.monotonic() >= deadline_s:
            raise StuckError(why)
        await asyncio.sleep(pause_s)
        pause_s = min(SLOWEST_POLL_S, 1.5 * pause_s)


def fingerprint_of(recipe: Recipe) -> str:
    """Changes when the model would be asked for in another way: such a one is not adopted."""
    parts = (recipe.driver, recipe.served_name, recipe.kind, recipe.own)
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


class HostedDriver(Driver):
    """Makes and adopts servers of one kind."""

    capabilities: ClassVar[frozenset[Capability]] = frozenset({Capability.ADOPT, Capability.FOOTPRINT})

    def __init__(
        self, name: str, settings: DriverSettings, section: type[HostedSection], api: Callable[[Recipe], HostedApi]
    ) -> None:
        self._name, self._settings, self._section, self._api = name, settings, section, api

    def server(self, launch: Launch) -> Server:
        """See ``Driver``, as for all that follows."""
        return HostedServer(self._api(launch.recipe), launch, Note(self._folder(launch.slot), launch.generation))

    def inspect(self, recipe: Recipe) -> RecipeInspection:
        """Look at what the entry says."""
        trouble = ""
        if isinstance(recipe.own, HostedSection):
            try:
                recipe.own.bearer()
            except CallError as error:
                trouble = str(error)
        return RecipeInspection(stamp=fingerprint_of(recipe), trouble=trouble)

    def _folder(self, slot: str) -> Path:
        return self._settings.state_dir.absolute() / quote(slot, safe="") / self._name

    # ----------------------------------------------------------------------------------------------------- adoption

    async def adopt(self, slot: str, recipes: Iterable[Recipe]) -> list[Server]:
        """Read the notes, newest first; keep what is unchanged and loaded, unload the rest of what is ours."""
        known = {recipe.model: recipe for recipe in recipes}
        adopted, stuck = list[HostedServer](), list[str]()
        for generation in self._generations(slot):
            try:
                server = await self._adopt_one(slot, generation, known, adopted)
            except StuckError as error:
                stuck.append(str(error))
            else:
                adopted += [server] if server is not None else []
        if stuck:
            raise StuckError("; ".join(stuck))
        return list[Server](adopted)

    def _generations(self, slot: str) -> list[int]:
        with suppress(OSError):
            names = [path.stem for path in self._folder(slot).glob("*.json")]
            return sorted((int(name) for name in names if name.isdecimal()), reverse=True)
        return []

    async def _adopt_one(
        self, slot: str, generation: int, known: Mapping[str, Recipe], adopted: Iterable[HostedServer]
    ) -> HostedServer | None:
        note = Note(self._folder(slot), generation)
        told = note.read()
        noted = self._noted(told)
        if noted is None:
            log.warning("note_unreadable", extra={"slot": slot, "driver": self._name, "generation": generation})
            note.remove()
            return None
        if any(_is_same(noted, server.launch.recipe) for server in adopted):  # a load that came after it took it over
            note.remove()
            return None
        recipe, api = known.get(noted.model), self._api(noted)
        seen = await _seen_at_last(api, is_settled=bool(told.get("loaded")))
        if seen.is_loaded and recipe is not None and told.get("fingerprint") == fingerprint_of(recipe):
            launch = Launch(slot=slot, recipe=recipe, generation=generation, key=str(told.get("key", "")))
            server = HostedServer(self._api(recipe), launch, note)
            server.adopted(seen)
            return server
        if seen.is_held:
            await until_unloaded(api, STOP_SLACK_S)
        note.remove()
        return None

    def _noted(self, told: Mapping[str, Any]) -> Recipe | None:
        """Make the recipe as it was: the catalogue may have another one by now, or none."""
        try:
            own = self._section.model_validate(told["own"])
            model, served_name, kind = (str(told[key]) for key in ("model", "served_name", "kind"))
        except (KeyError, TypeError, ValidationError):
            return None
        return Recipe(model=model, served_name=served_name, kind=kind, memory_mib=0, driver=self._name, own=own)


def _is_same(one: Recipe, other: Recipe) -> bool:
    """Are they the same model at the same server?"""
    return fingerprint_of(replace(one, kind="")) == fingerprint_of(replace(other, kind=""))


async def _seen_at_last(api: HostedApi, *, is_settled: bool) -> ModelStatus:
    """Look; where nobody saw the end of its load, for so long that it would have turned up.

    Raises:
        StuckError: Somebody listens there and says nothing.
    """
    deadline_s = time.monotonic() + (0.0 if is_settled else SETTLE_S)
    while True:
        try:
            seen = await api.look()
        except NobodyThereError:
            return NOT_LOADED
        except CallError as error:
            raise StuckError(f"{error}; {api.recipe.model} may still be loaded there") from error
        if seen.is_held or time.monotonic() >= deadline_s:
            return seen
        await asyncio.sleep(SLOWEST_POLL_S)
