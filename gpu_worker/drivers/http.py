"""The ``http`` driver: any server that runs already and loads and unloads models by URLs that the operator writes down.

Rule: what is loaded is what ``status`` says, and it is asked first: some servers load what is there a second time.

Source: LM Studio, REST API v1 (*List*, *Load*, *Unload*); Lemonade, *Lemonade API* (``/load``, ``/unload``,
``/health``); llama-swap, README (``/running``, ``/upstream``, ``/api/models/unload``). docs/drivers.md shows each.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal
from urllib.parse import quote, urlsplit

from pydantic import Field, field_validator

from gpu_worker.drivers.failing import Failing, of_words
from gpu_worker.drivers.hosted import ASK_TIMEOUT_S, LOAD_TIMEOUT_S, HostedApi, HostedDriver, HostedSection, ModelStatus
from gpu_worker.drivers.port import Address, Capability, Driver, DriverEntry, DriverSettings, LoadError, Recipe
from gpu_worker.host.http_calls import CallAnswer, CallError, call
from schemas.config.source import Section

MIB = 1 << 20
_PLACE = re.compile(r"\{([a-z_]*)\}")
_PLACES = frozenset({"model", "model_name"})
_STEP = re.compile(r"(?P<name>[^/\[\]]*)(?P<filters>(\[[^\[\]=]+=[^\[\]]*\])*)")
_FILTER = re.compile(r"\[([^\[\]=]+)=([^\[\]]*)\]")
_PASSING = frozenset({408, 409, 423, 425, 429, 503})


class CallEntry(Section):
    """One question to the server."""

    allowed: ClassVar[frozenset[str]] = _PLACES

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"] = "POST"
    """How it is asked."""
    url: str
    """A path of the server, or a whole ``http://HOST:PORT/PATH``. Here, in ``body`` and in paths, ``{model}`` is
    ``served_name`` and ``{model_name}`` the entry's name."""
    body: dict[str, Any] | None = None
    """Sent as JSON. None: nothing is sent."""
    expect: str = ""
    """Where the answer has to lead to something, as a path: ``/models/*[key={model}]/id``. Empty: a status from 200 to
    299 is enough."""

    @field_validator("url")
    @classmethod
    def _leads_somewhere(cls, url: str) -> str:
        if not url.startswith("/"):
            parts = urlsplit(url)
            Address(f"{parts.scheme}://{parts.netloc}")
        return _sound(url, cls.allowed)

    @field_validator("body")
    @classmethod
    def _has_known_places(cls, body: dict[str, Any] | None) -> dict[str, Any] | None:
        for word in _words_in(body):
            _sound(word, cls.allowed)
        return body

    @field_validator("expect")
    @classmethod
    def _is_a_path(cls, path: str) -> str:
        return sound_path(path)


class LoadEntry(CallEntry):
    """``[model.http.load]``."""

    gives_up: bool = False
    """Does the server give up a load when the one who asked hangs up? Where it does not, whoever stops a load waits for
    its end: an unload that comes before it would be for nothing."""


class UnloadEntry(CallEntry):
    """``[model.http.unload]``; ``{picked}`` is what ``expect`` of the status leads to."""

    allowed: ClassVar[frozenset[str]] = _PLACES | {"picked"}


class StatusEntry(CallEntry):
    """``[model.http.status]``."""

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"] = "GET"
    """How it is asked."""
    expect: str = Field(min_length=1)
    """Leads to something exactly while the model is loaded."""
    present: str = ""
    """Leads to something while it is loaded, and while it loads or unloads too. Empty: the server does not tell."""
    memory_bytes: str = ""
    """Leads to what it holds of the device, bytes."""
    progress_percent: str = ""
    """Leads to how far its load has come."""

    @field_validator("present", "memory_bytes", "progress_percent")
    @classmethod
    def _are_paths(cls, path: str) -> str:
        return sound_path(path)


class HttpSection(HostedSection):
    """``[model.http]``."""

    load: LoadEntry
    """Asked once for each load, unless the model is loaded already."""
    unload: UnloadEntry
    """Asked until the status says that the model is gone."""
    status: StatusEntry
    """Asked once a second."""


class HttpApi(HostedApi):
    """One model of such a server."""

    answers_loaded = False

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        assert isinstance(recipe.own, HttpSection)
        self._own = recipe.own
        self._places = {"model": recipe.served_name, "model_name": recipe.model}
        self.gives_up = recipe.own.load.gives_up
        if recipe.own.status.method == "GET" and recipe.own.status.url.startswith("/"):
            self.health_path = filled_url(recipe.own.status.url, self._places)

    async def look(self) -> ModelStatus:
        """See ``HostedApi``, as for all that follows."""
        status = self._own.status
        answer = await self._call(status, self._places)
        told = answer.json()
        if not answer.good or told is None:
            raise CallError(f"status: {answer.status}: {answer.words()}")
        picked = self._led_to(told, status.expect)
        present = picked or (self._led_to(told, status.present) if status.present else [])
        return ModelStatus(
            is_loaded=bool(picked),
            is_present=bool(present),
            mib=_number(self._led_to(told, status.memory_bytes)) // MIB,
            percent=_number(self._led_to(told, status.progress_percent)),
            picked=next((str(one) for one in picked if isinstance(one, str | int)), ""),
        )

    async def load(self, seen: ModelStatus) -> None:
        """Answers when it is loaded, or at once: that is the server's way."""
        if seen.is_loaded:
            return
        answer = await self._call(self._own.load, self._places, timeout_s=LOAD_TIMEOUT_S)
        if self._is_as_expected(answer, self._own.load):
            return
        said = f"load: {answer.words() or f'status {answer.status}'}"
        if answer.status in _PASSING:
            raise LoadError(said, Failing.PASSING)
        raise LoadError(said, Failing.PERMANENT if 400 <= answer.status < 500 else of_words(said))

    async def unload(self, seen: ModelStatus) -> None:
        """Name what the status picked; a server that hears no name may unload all that it has."""
        if not seen.picked and any(
            "{picked}" in word for word in [self._own.unload.url, *_words_in(self._own.unload.body)]
        ):
            raise CallError("unload: the status does not say what it is called")
        answer = await self._call(self._own.unload, {**self._places, "picked": seen.picked})
        if not self._is_as_expected(answer, self._own.unload):
            raise CallError(f"unload: status {answer.status}: {answer.words()}")

    async def _call(self, entry: CallEntry, places: Mapping[str, str], timeout_s: float = ASK_TIMEOUT_S) -> CallAnswer:
        url = filled_url(entry.url, places)
        parts = urlsplit(url)
        address = self.section.url if url.startswith("/") else f"{parts.scheme}://{parts.netloc}"
        path = url.removeprefix(address) or "/"
        body = None if entry.body is None else _filled(entry.body, places)
        bearer = self.section.bearer()
        return await call(address, entry.method, path, body=body, bearer=bearer, timeout_s=timeout_s)

    def _is_as_expected(self, answer: CallAnswer, entry: CallEntry) -> bool:
        return answer.good and (not entry.expect or bool(self._led_to(answer.json(), entry.expect)))

    def _led_to(self, told: Any, path: str) -> list[Any]:
        return list(led_to(told, path, self._places)) if path else []


# ------------------------------------------------------------------------------------------------------- placeholders
def _sound(text: str, allowed: frozenset[str]) -> str:
    for place in _PLACE.findall(text):
        if place not in allowed:
            raise ValueError(f"unknown placeholder {{{place}}}; there is {', '.join(sorted(allowed))}")
    return text


def _words_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _words_in(one)


def _filled(value: Any, places: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return _PLACE.sub(lambda place: places.get(place[1], place[0]), value)
    if isinstance(value, dict):
        return {key: _filled(one, places) for key, one in value.items()}
    return [_filled(one, places) for one in value] if isinstance(value, list) else value


def filled_url(url: str, places: Mapping[str, str]) -> str:
    """Fill in names as a path bears them."""
    return str(_filled(url, {name: quote(value, safe="") for name, value in places.items()}))


# -------------------------------------------------------------------------------------------------------------- paths
def sound_path(path: str) -> str:
    """Check a path into an answer: names, or ``*`` for each, after slashes; ``[key=value]`` keeps those that fit.

    Raises:
        ValueError: It is none.
    """
    if path and not path.startswith("/"):
        raise ValueError("must begin with a slash, as /models/*[key={model}]/id")
    for step in path.split("/")[1:]:
        if not _STEP.fullmatch(step):
            raise ValueError(f"{step!r} is no step of a path: a name or *, and then [key=value] as often as you like")
    return _sound(path, _PLACES)


def led_to(told: Any, path: str, places: Mapping[str, str]) -> Iterator[Any]:
    """Answer all that a path leads to; a name of a model may hold slashes and brackets, so it is filled in last."""
    found = [told]
    for step in path.split("/")[1:]:
        match = _STEP.fullmatch(step)
        assert match is not None
        name = _filled(match["name"], places)
        filters = [(key, _filled(value, places)) for key, value in _FILTER.findall(match["filters"])]
        found = [one for value in found for one in _inside(value, name) if _fits(one, filters)]
    yield from (one for one in found if one not in (None, False, ""))


def _inside(value: Any, name: str) -> list[Any]:
    if not name:
        return [value]
    if name == "*":
        inner = value.values() if isinstance(value, dict) else value
        return list(inner) if isinstance(value, dict | list) else []
    if isinstance(value, dict):
        return [value[name]] if name in value else []
    is_index = isinstance(value, list) and name.isdecimal() and int(name) < len(value)
    return [value[int(name)]] if is_index else []


def _fits(value: Any, filters: list[tuple[str, str]]) -> bool:
    return not filters or (
        isinstance(value, dict) and all(key in value and _told(value[key]) == wanted for key, wanted in filters)
    )


def _told(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _number(found: list[Any]) -> int:
    return sum(int(one) for one in found if isinstance(one, int | float) and not isinstance(one, bool))


class HttpDriver(HostedDriver):
    """Says also how far a load has come, where the status does."""

    capabilities: ClassVar[frozenset[Capability]] = HostedDriver.capabilities | {Capability.PROGRESS}


def _make(settings: DriverSettings) -> Driver:
    return HttpDriver("http", settings, HttpSection, HttpApi)


DRIVER = DriverEntry(make=_make, section=HttpSection)
