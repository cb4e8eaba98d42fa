"""What every part reads from ``hotseat.toml``: the store and the model catalogue."""

import re
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import pairwise
from pathlib import Path, PurePath
from typing import Annotated, ClassVar, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, StringConstraints, field_validator, model_validator

from schemas.addresses import address_of, secret_in
from schemas.config import drivers
from schemas.config.parameters import ParametersEntry
from schemas.config.problems import ConfigError, ConfigProblem, near
from schemas.config.source import ConfigSource, Section
from schemas.names import NAME_PATTERN, POOL_PATTERN

__all__ = [
    "ConfigError",
    "ConfigSource",
    "ModelEntry",
    "Name",
    "PoolName",
    "Section",
    "StoreSection",
    "check_room",
    "models_of",
    "note_room",
]

PLACEHOLDERS = frozenset({"host", "port", "socket", "model_path", "served_name", "api_key_file"})
"""What a ``command`` may ask for in braces."""
IN_ENVIRONMENT = PLACEHOLDERS | {"api_key"}
"""The same of ``env``: what stands there only the server and its user can read, a command line everybody."""
KEY_WAYS = 'a command with {api_key_file}, key = "environment:NAME", key = "argument" with {api_key}, or key = "none"'
"""How a server may take its key, for whoever has not said it."""

Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
"""Model and slot names: they become part of key names, so no space, brace or control character."""

PoolName = Annotated[str, StringConstraints(pattern=POOL_PATTERN)]

MIN_SOCKET_PATH = 2
"""A slash and a name."""
MAX_DIGITS = 10
"""Of a context length in a command."""
MOST_SHOWN = 64
"""Characters of a name that there is not."""

_PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")
_VECTORS = re.compile(r"--embeddings?\b|--is-embedding|--task[= ]embed|--runner[= ]pooling|--convert[= ]embed")
_EYES = re.compile(r"--mmproj(?:-url|-auto)?|-mmu?|-hfr?|--hf-repo")
"""Options of a llama-server with which it may take pictures."""


class StoreSection(Section):
    """``[store]``: the Redis or Valkey server all parts share."""

    url: str = "redis://127.0.0.1:6379/0"
    """``redis://``, ``rediss://`` or ``unix://`` address, without a password: that belongs in ``password_file``."""
    pool: PoolName = "default"
    """Slots that share one queue; every key begins with ``hotseat:{<pool>}``."""
    username: str | None = None
    """ACL user. None: the server's default user."""
    password_file: Path | None = None
    """File with the password (first line), readable by this part only. A relative path counts from the working
    directory."""

    @field_validator("url")
    @classmethod
    def _reachable_without_secret(cls, url: str) -> str:
        if not url.startswith(("redis://", "rediss://", "unix://")):
            raise ValueError("must begin with redis://, rediss:// or unix://")
        if "@" in url.split("://", 1)[1].split("/", 1)[0] or "password=" in url:
            raise ValueError("must not contain credentials; use username and password_file")
        parts = urlsplit(url) if url.startswith("unix://") else address_of(url, ("redis", "rediss"))
        if parts.scheme == "unix" and (parts.netloc or len(parts.path) < MIN_SOCKET_PATH):
            raise ValueError("must be unix:// and the whole path of a socket, with three slashes in a row")
        if parts.scheme != "unix" and not re.fullmatch(r"/?\d{0,5}", parts.path):
            raise ValueError("must end in the number of a database, such as /0, or in nothing")
        if not re.fullmatch(r"(db=\d{1,5})?", parts.query):
            raise ValueError("may ask for nothing but ?db= and a number")
        return url

    def read_password(self) -> str | None:
        """The password, or None where none is configured.

        Raises:
            ConfigError: The file cannot be read or is empty.
        """
        if self.password_file is None:
            return None
        try:
            return secret_in(self.password_file)
        except ValueError as error:
            raise ConfigError(ConfigProblem(table="[store]", key="password_file", what=str(error))) from None


class ModelEntry(Section):
    """``[[model]]``: one named entry of the catalogue.

    The broker reads the first group; the host with the GPU also reads the second, which never travels, and the table
    ``[model.DRIVER]`` below the entry, which its driver owns (``gpu_worker/drivers/``).
    """

    beside: ClassVar[frozenset[str]] = drivers.DRIVERS

    name: Name
    """What clients ask for."""
    memory_mib: int = Field(gt=0, le=16 * 1024 * 1024)
    """Declared footprint, MiB, weights and caches: what a load must find free."""
    lease_limit: int = Field(default=4, ge=1, le=10_000)
    """`use` leases that share the ready model at once; llama-server's own default is 4 parallel requests."""
    default: bool = False
    """The pool's model while nobody is active: loaded at the start, back ``policy.idle_restore_s`` after what made it
    go was last used. At most one."""
    pinned: bool = False
    """Always there: loaded before anything else, moved for nobody. What does not fit beside it is refused."""
    keep: int = Field(default=0, ge=0, le=64)
    """A warm pool: ready on this many slots while nobody else needs the room, as the default is on one. With
    ``pinned``: always on this many. 0: nothing is kept (``pinned``, ``default``: one)."""
    eviction_weight: float = Field(default=1.0, ge=0.001, le=1000)
    """How dear it is to evict, in times of what its load takes: 3 makes others go first that take up to three times as
    long to come back."""
    release_vram_after_s: float | None = Field(default=None, gt=0)
    """Unload after so many idle seconds, unless a warm lease keeps it. None: keep it until its place is needed, idle
    memory helps nobody."""
    load_s_hint: float | None = Field(default=None, gt=0)
    """Expected load time, seconds, until real ones have been observed. None: what the worker reckons from the size of
    the model's files and the speed of their disk; 15 s where it finds no files."""
    expected_hold_s: float | None = Field(default=None, gt=0)
    """Expected time a holder keeps its lease, seconds, until real ones have been observed."""
    fallbacks: tuple[Name, ...] = ()
    """Models of this catalogue that may answer instead, best first."""
    kind: Literal["chat", "completion", "embedding", "rerank"] = "chat"
    """Decides the first request that proves readiness: one generated token, one embedding, or one ranking; and what it
    can be asked for."""
    context_tokens: int | None = Field(default=None, gt=0, le=100_000_000)
    """Prompt and reply together that it takes, one parallel request's share; ``/v1/models`` tells clients. None:
    routing does not check, and clients are told what ``command`` says."""
    max_tools: int | None = Field(default=None, ge=0, le=100_000)
    """Requests with more tools go to another candidate. None: routing does not check, as with the next two."""
    structured: bool | None = None
    """Can it answer in a given form (JSON mode, a schema)?"""
    vision: bool | None = None
    """Does it take pictures? Clients are told so where it is true."""
    strict: bool | None = None
    """Are its answers to requests that name a JSON schema held against it, as with ``x-hotseat-validate: strict``?
    None: as ``[gateway]`` says."""
    quantisation: str | None = Field(default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,31}$")
    """Of its weights, such as ``q4_k_m``, for requests that ask for one within a family. None: as its file's name says,
    or its own."""
    private: bool = False
    """Whoever asks for it is private, with the session: nothing of that conversation may leave."""
    parameters: ParametersEntry = ParametersEntry()
    """What is changed about every request that it serves."""

    driver: str = drivers.DEFAULT_DRIVER
    """Which driver of the worker starts it; what only that one reads stands in a table of its name."""
    command: tuple[str, ...] = ()
    """Program and arguments, started without a shell. ``{host} {port} {model_path} {served_name} {api_key_file}`` are
    filled in. Empty: this host cannot start the model. The server must get its port here or in ``env``, and its key as
    ``key`` says."""
    key: str | None = Field(default=None, pattern=r"^(file|argument|none|environment:[A-Za-z_][A-Za-z0-9_]*)$")
    """How the server takes the load's key. ``file``: ``{api_key_file}``; ``environment:NAME``: in that variable;
    ``argument``: ``{api_key}`` in ``command``, which everybody on the host can read; ``none``: it knows no keys, and
    the worker puts a door in front of it (then ``{socket}`` may stand for ``{port}``). None: as ``command`` and ``env``
    ask."""
    slots: tuple[Name, ...] = ()
    """Slots that may load it, where cards differ or the command picks one itself. Empty: any of a host that can start
    it."""
    model_path: Path | None = None
    """The weights on the GPU host; also tells load progress."""
    served_name: str | None = Field(default=None, min_length=1, max_length=256)
    """Name the server must list under ``/v1/models``. None: ``name``."""
    env: dict[str, str] = Field(default_factory=dict)
    """Extra environment of the server. It inherits only a short allow-list, so no secret leaks into it. Filled in as in
    ``command``, and ``{api_key}`` too, for servers that take their key so (``VLLM_API_KEY``, ``LLAMA_API_KEY``)."""
    health_path: str = Field(default="/health", pattern=r"^/")
    """Answers 200 once the weights are loaded."""
    load_timeout_s: float = Field(default=300.0, gt=0, le=7200)
    """A load that takes longer has failed, seconds; large models from a cold disk take minutes."""
    stop_timeout_s: float = Field(default=10.0, gt=0, le=600)
    """Between SIGTERM and SIGKILL, seconds; a server mid-answer needs a moment, a hung one never ends."""

    @property
    def copies(self) -> int:
        """Slots on which it is to be while nobody is active."""
        return max(self.keep, int(self.default or self.pinned))

    @property
    def is_startable(self) -> bool:
        """May a host that reads this entry start it? Whether another driver than ``process`` can is for it to say."""
        return bool(self.command) or self.driver != drivers.DEFAULT_DRIVER

    @property
    def key_way(self) -> str:
        """How it takes its key where ``command`` and ``env`` do not say it by themselves; empty where they do."""
        return "" if self.key in {None, "file"} else self.key or ""

    @property
    def offered_tokens(self) -> int | None:
        """What clients are told of its context: ``context_tokens``, else what the command gives one request."""
        return self.context_tokens or _tokens_of(self.command)

    @property
    def gives_vectors(self) -> bool:
        """Does its command ask its server for embeddings, beside or instead of what ``kind`` says?"""
        return _VECTORS.search(" ".join(self.command)) is not None or "LLAMA_ARG_EMBEDDINGS" in self.env

    @property
    def is_blind(self) -> bool:
        """Does its command say that it takes no pictures?

        A llama-server takes some with a second file only, which it finds by itself for models that it downloads.
        """
        if not self.command or PurePath(self.command[0]).name != "llama-server":
            return False
        options = {word.split("=", 1)[0] for word in self.command}
        has_eyes = any(_EYES.fullmatch(option) for option in options) or "LLAMA_ARG_MMPROJ" in " ".join(self.env)
        return not has_eyes and not options.isdisjoint({"-m", "--model"})

    @property
    def expected_name(self) -> str:
        """The name ``/v1/models`` must list."""
        return self.served_name or self.name

    @model_validator(mode="after")
    def _stays_or_goes(self) -> Self:
        stays = "pinned" if self.pinned else "keep" if self.keep else ""
        if stays and self.release_vram_after_s is not None:
            raise ValueError(f"{stays} says that it stays, release_vram_after_s that it goes: leave one of them out")
        return self

    @model_validator(mode="after")
    def _command_is_complete(self) -> Self:
        asked = {match for word in self.command for match in _PLACEHOLDER.findall(word)}
        if "api_key" in asked and self.key != "argument":
            raise ValueError(
                "command: {api_key} belongs in env, for everybody on the host can read a command line; "
                'if the server takes its key in no other way, set key = "argument"'
            )
        if unknown := sorted(asked - PLACEHOLDERS - {"api_key"}):
            raise ValueError(f"command: unknown placeholder {{{unknown[0]}}}; known: {', '.join(sorted(PLACEHOLDERS))}")
        in_command = frozenset(asked)
        asked |= self._asked_in_env()
        if "model_path" in asked and self.model_path is None:
            raise ValueError("command asks for {model_path}, but model_path is not set")
        if self.driver == "process" and self.command:
            self._has_a_place(asked)
            self._has_a_key(asked, in_command)
        return self

    def _has_a_place(self, asked: AbstractSet[str]) -> None:
        if "socket" in asked and self.key != "none":
            raise ValueError('{socket} is for a server behind a door (key = "none"); brokers reach others at {port}')
        if {"socket", "port"} <= asked:
            raise ValueError("command: {socket} or {port}, one of them: the server listens in one place")
        if asked.isdisjoint({"socket", "port"}):
            or_socket = " or {socket}" if self.key == "none" else ""
            raise ValueError(f"command of the process driver must contain {{port}}{or_socket}")

    def _has_a_key(self, asked: AbstractSet[str], in_command: AbstractSet[str]) -> None:
        """See that what the server is told of its key is what ``key`` says."""
        keys = asked & {"api_key_file", "api_key"}
        match (self.key or "").partition(":"):
            case ("", _, _) if not keys:
                told = "command of the process driver must contain {api_key_file}, or env {api_key}"
                raise ValueError(f"{told}; say how the server takes its key: {KEY_WAYS}")
            case ("file", _, _) if "api_key_file" not in keys:
                raise ValueError('key = "file": command (or env) must contain {api_key_file}')
            case ("argument", _, _) if "api_key" not in in_command:
                raise ValueError('key = "argument": command must contain {api_key}')
            case ("environment", _, name) if name in self.env:
                raise ValueError(f'key = "{self.key}": env.{name} says something else; leave it out')
            case ("none", _, _) if keys:
                raise ValueError(f'key = "none": the server gets no key, so {{{min(keys)}}} says nothing; leave it out')

    def _asked_in_env(self) -> set[str]:
        """Other braces are the server's own, unless they are all there is."""
        for name, value in self.env.items():
            if (whole := _PLACEHOLDER.fullmatch(value)) and whole[1] not in IN_ENVIRONMENT:
                known = ", ".join(sorted(IN_ENVIRONMENT))
                raise ValueError(f"env.{name}: unknown placeholder {{{whole[1]}}}; known: {known}")
        found = {match for value in self.env.values() for match in _PLACEHOLDER.findall(value)}
        return found & IN_ENVIRONMENT


def _tokens_of(command: tuple[str, ...]) -> int | None:
    """One request's: vLLM says that; llama-server divides its context among its parallel requests."""
    words = tuple(part for word in command for part in (word.split("=", 1) if word.startswith("--") else (word,)))
    if tokens := _after(words, "--max-model-len"):
        return tokens
    size = _after(words, "-c", "--ctx-size")
    return size // (_after(words, "-np", "--parallel") or 1) or None if size else None


def _after(words: tuple[str, ...], *options: str) -> int | None:
    values = [value for option, value in pairwise(words) if option in options]
    return int(values[-1]) if values and values[-1].isdecimal() and len(values[-1]) < MAX_DIGITS else None


def models_of(source: ConfigSource) -> tuple[ModelEntry, ...]:
    """The catalogue, ``[[model]]``, in file order.

    Notes names that occur twice, two defaults, unknown fallbacks and drivers that there are not.
    """
    entries = source.tables(ModelEntry, "model")
    tables = source.raw.get("model", [])
    names = source.names("model")
    seen: set[str] = set()
    has_default = False
    for index, table in enumerate(tables if isinstance(tables, list) else []):
        if not isinstance(table, dict):
            continue
        name = table.get("name")
        if isinstance(name, str) and name in seen:
            source.blame("another [[model]] has this name", "model", index, "name")
        seen |= {name} if isinstance(name, str) else set()
        if table.get("default") is True:
            if has_default:
                source.blame("at most one model may be the default", "model", index, "default")
            has_default = True
        _check_fallbacks(source, table.get("fallbacks"), ("model", index, "fallbacks"), names)
        _check_driver(source, table, index)
    return entries


def _check_driver(source: ConfigSource, table: Mapping[str, object], index: int) -> None:
    driver = table.get("driver", drivers.DEFAULT_DRIVER)
    if not isinstance(driver, str):
        return
    if driver not in drivers.DRIVERS:
        source.blame(f"no driver {driver[:MOST_SHOWN]!r}; {near(driver, drivers.DRIVERS)}", "model", index, "driver")
        return
    for name in sorted(drivers.DRIVERS & table.keys()):
        if not isinstance(table[name], dict):
            source.blame(f"write [model.{name}], a table", "model", index, name)
        elif name != driver:
            what = f'is for models with driver = "{name}", and this one\'s is "{driver}"'
            source.blame(what, "model", index, name)


def _check_fallbacks(source: ConfigSource, fallbacks: object, path: tuple[str | int, ...], names: list[str]) -> None:
    for name in fallbacks if isinstance(fallbacks, list) else []:
        if isinstance(name, str) and name not in names:
            source.blame(f"{name!r} is not in the catalogue; {near(name, names)}", *path)


def note_room(source: ConfigSource, entries: Sequence[ModelEntry], budgets_mib: Mapping[str, int]) -> None:
    """Note what ``check_room`` finds, where the models are else as they should be."""
    if not source.is_sound("model"):
        return
    try:
        check_room(entries, budgets_mib)
    except ConfigError as error:
        source.blame(error.problems[0].what, "model")


def check_room(entries: Sequence[ModelEntry], budgets_mib: Mapping[str, int]) -> None:
    """Do the models that are to be there fit on their slots, by name? Only those count that this host can start.

    Raises:
        ConfigError: Pinned models do not fit together, or leave no room for the default.
    """
    if not budgets_mib:
        return
    left_mib = dict(sorted(budgets_mib.items()))
    here = [entry for entry in entries if entry.is_startable]
    for entry in sorted((e for e in here if e.pinned), key=lambda e: (-e.memory_mib, e.name)):
        homes = [slot for slot in _homes(entry, left_mib) if left_mib[slot] >= entry.memory_mib][: entry.copies]
        if len(homes) < entry.copies:
            pinned = ", ".join(f"{e.name} ({_times(e)}{e.memory_mib} MiB)" for e in here if e.pinned)
            slots = ", ".join(f"{slot} ({mib} MiB)" for slot, mib in budgets_mib.items())
            raise ConfigError(f"the pinned models do not fit: {pinned} on {slots}; pin fewer, or smaller ones")
        for slot in homes:
            left_mib[slot] -= entry.memory_mib
    default = next((e for e in here if e.default and not e.pinned), None)
    if default is None or not any(e.pinned for e in here):
        return
    room_mib = max((left_mib[slot] for slot in _homes(default, left_mib)), default=0)
    if room_mib < default.memory_mib:
        raise ConfigError(
            f"{default.name!r}: the default needs {default.memory_mib} MiB, but what is pinned leaves {room_mib} MiB "
            "at most; pin less, or make a smaller model the default"
        )


def _homes(entry: ModelEntry, slots: Iterable[str]) -> list[str]:
    return [slot for slot in slots if not entry.slots or slot in entry.slots]


def _times(entry: ModelEntry) -> str:
    return f"{entry.copies} x " if entry.copies > 1 else ""
