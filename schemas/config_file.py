"""What every part reads from ``hotseat.toml``: the store and the model catalogue, and how the file is loaded.

Rule: each part validates its own section strictly and leaves the others' alone, so one file serves all parts and a
typing error is still found. Environment variables win over the file: ``HOTSEAT_<SECTION>_<FIELD>``.
"""

import re
import tomllib
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator, model_validator

SECTIONS = frozenset(
    {"store", "model", "broker", "limits", "policy", "gateway", "key", "worker", "routing", "poller", "up"}
)
"""Top-level names a file may have; whoever owns a section refuses unknown keys inside it."""

ENV_PREFIX = "HOTSEAT_"

NOT_SETTINGS = frozenset(
    {"HOTSEAT_CONFIG", "HOTSEAT_URL", "HOTSEAT_API_KEY", "HOTSEAT_LEASE", "HOTSEAT_NONCE", "HOTSEAT_NOTICE"}
)
"""Variables of the command line (path of the file, broker's address and key for a client) and those that a job under a
lease finds, not of any section."""

PLACEHOLDERS = frozenset({"host", "port", "model_path", "served_name", "api_key_file"})
"""What a ``command`` may ask for in braces."""

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@-]{0,127}$")]
"""Model and slot names: they become part of key names, so no space, brace or control character."""

PoolName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]

MAX_DIGITS = 10
"""Of a context length in a command."""

_PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")


class ConfigError(ValueError):
    """The configuration cannot be used; the message says which key and why."""


class Section(BaseModel):
    """Base of every section: frozen, unknown keys refused, docstrings kept as descriptions."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


S = TypeVar("S", bound=Section)


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
    def _url_without_secret(cls, url: str) -> str:
        if not url.startswith(("redis://", "rediss://", "unix://")):
            raise ValueError("must begin with redis://, rediss:// or unix://")
        authority = url.split("://", 1)[1].split("/", 1)[0]
        if "@" in authority or "password=" in url:
            raise ValueError("must not contain credentials; use username and password_file")
        return url

    def read_password(self) -> str | None:
        """The password, or None where none is configured.

        Raises:
            ConfigError: The file cannot be read or is empty.
        """
        if self.password_file is None:
            return None
        try:
            lines = self.password_file.read_text(encoding="utf-8").splitlines()
        except OSError as error:
            raise ConfigError(f"store.password_file cannot be read: {error.strerror}") from error
        if not lines or not lines[0]:
            raise ConfigError("store.password_file is empty")
        return lines[0]


class ModelEntry(Section):
    """``[[model]]``: one named entry of the catalogue.

    The broker reads the first group; the host with the GPU also reads the second, which never travels.
    """

    name: Name
    """What clients ask for."""
    memory_mib: int = Field(gt=0, le=16 * 1024 * 1024)
    """Declared footprint, MiB, weights and caches: what a load must find free."""
    lease_limit: int = Field(default=4, ge=1, le=10_000)
    """`use` leases that share the ready model at once; llama-server's own default is 4 parallel requests."""
    default: bool = False
    """The pool's model while nobody asks for another. At most one."""
    release_vram_after_s: float | None = Field(default=None, gt=0)
    """Unload after so many idle seconds. None: keep it until its place is needed, idle memory helps nobody."""
    load_s_hint: float | None = Field(default=None, gt=0)
    """Expected load time, seconds, until real ones have been observed."""
    expected_hold_s: float | None = Field(default=None, gt=0)
    """Expected time a holder keeps its lease, seconds, until real ones have been observed."""
    fallbacks: tuple[Name, ...] = ()
    """Models of this catalogue that may answer instead, best first."""
    kind: Literal["chat", "completion", "embedding"] = "chat"
    """Decides the first request that proves readiness: one generated token, or one embedding."""
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
    private: bool = False
    """Whoever asks for it is private, with the session: nothing of that conversation may leave."""

    driver: str = Field(default="process", pattern=r"^[a-z][a-z0-9_]{0,31}$")
    """Which driver of the worker starts it."""
    command: tuple[str, ...] = ()
    """Program and arguments, started without a shell. ``{host} {port} {model_path} {served_name} {api_key_file}`` are
    filled in. Empty: this host cannot start the model."""
    model_path: Path | None = None
    """The weights on the GPU host; also tells load progress."""
    served_name: str | None = Field(default=None, min_length=1, max_length=256)
    """Name the server must list under ``/v1/models``. None: ``name``."""
    env: dict[str, str] = Field(default_factory=dict)
    """Extra environment of the server. It inherits only a short allow-list, so no secret leaks into it."""
    health_path: str = Field(default="/health", pattern=r"^/")
    """Answers 200 once the weights are loaded."""
    load_timeout_s: float = Field(default=300.0, gt=0, le=7200)
    """A load that takes longer has failed, seconds; large models from a cold disk take minutes."""
    stop_timeout_s: float = Field(default=10.0, gt=0, le=600)
    """Between SIGTERM and SIGKILL, seconds; a server mid-answer needs a moment, a hung one never ends."""

    @property
    def offered_tokens(self) -> int | None:
        """What clients are told of its context: ``context_tokens``, else what the command gives one request."""
        return self.context_tokens or _tokens_of(self.command)

    @property
    def expected_name(self) -> str:
        """The name ``/v1/models`` must list."""
        return self.served_name or self.name

    @model_validator(mode="after")
    def _command_is_complete(self) -> Self:
        asked = {match for word in self.command for match in _PLACEHOLDER.findall(word)}
        if unknown := sorted(asked - PLACEHOLDERS):
            raise ValueError(f"command: unknown placeholder {{{unknown[0]}}}; known: {', '.join(sorted(PLACEHOLDERS))}")
        if "model_path" in asked and self.model_path is None:
            raise ValueError("command asks for {model_path}, but model_path is not set")
        if self.driver == "process" and self.command and (missing := sorted({"port", "api_key_file"} - asked)):
            raise ValueError(f"command of the process driver must contain {{{missing[0]}}}")
        return self


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


def load_toml(path: Path | None, environ: Mapping[str, str]) -> dict[str, Any]:
    """Read the file (none: everything default), lay the environment over it, refuse unknown top-level sections.

    Raises:
        ConfigError: Unreadable, not TOML, or an unknown section or variable.
    """
    raw = {} if path is None else _parsed(path)
    if unknown := sorted(raw.keys() - SECTIONS):
        raise ConfigError(f"unknown section [{unknown[0]}]; known: {', '.join(sorted(SECTIONS))}")
    for variable, value in sorted(environ.items()):
        if variable.startswith(ENV_PREFIX) and variable not in NOT_SETTINGS:
            _overlay(raw, variable, value)
    return raw


def section_of(kind: type[S], raw: Mapping[str, Any], name: str) -> S:
    """Validate one section; an absent one is all defaults.

    Raises:
        ConfigError: Names the key and why it is refused.
    """
    return _validated(kind, raw.get(name, {}), name)


def models_of(raw: Mapping[str, Any]) -> tuple[ModelEntry, ...]:
    """The catalogue, ``[[model]]``, in file order.

    Raises:
        ConfigError: An entry is refused, a name occurs twice, two defaults, or a fallback nobody knows.
    """
    tables = raw.get("model", [])
    if not isinstance(tables, list):
        raise ConfigError("model: write [[model]], one table per model")
    entries = tuple(_validated(ModelEntry, table, f"model[{index}]") for index, table in enumerate(tables))
    names = [entry.name for entry in entries]
    if len(set(names)) != len(names):
        raise ConfigError(f"model: {next(name for name in names if names.count(name) > 1)!r} occurs twice")
    if sum(entry.default for entry in entries) > 1:
        raise ConfigError("model: at most one entry may be the default")
    for entry in entries:
        if strangers := [name for name in entry.fallbacks if name not in names]:
            raise ConfigError(f"model {entry.name!r}: fallback {strangers[0]!r} is not in the catalogue")
    return entries


def _parsed(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from error


def _overlay(raw: dict[str, Any], variable: str, value: str) -> None:
    section, _, field = variable.removeprefix(ENV_PREFIX).lower().partition("_")
    if section not in SECTIONS - {"model", "key"} or not field:
        raise ConfigError(f"unknown environment variable {variable}")
    table = raw.setdefault(section, {})
    if not isinstance(table, dict):
        raise ConfigError(f"{section} is not a table")
    table[field] = value


def _validated(kind: type[S], table: object, where: str) -> S:
    try:
        return kind.model_validate(table)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        key = ".".join((where, *(str(part) for part in first["loc"])))
        raise ConfigError(f"{key}: {first['msg'].removeprefix('Value error, ')}") from None
