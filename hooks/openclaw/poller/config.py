"""The poller's part of ``hotseat.toml``: ``[poller]``, beside the shared ``[store]``."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from schemas.addresses import address_of, secret_in
from schemas.config.file import ConfigError, ConfigSource, Name, Section, StoreSection
from schemas.config.problems import ConfigProblem

FULL_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}/[^\s]{1,190}$"
"""How OpenClaw writes a model's name: ``provider/model``."""
SourceName = Literal["auto", "sqlite", "legacy-json", "gateway-api"]


def _state_dir() -> Path:
    given = os.environ.get("OPENCLAW_STATE_DIR")
    return Path(given).expanduser() if given else Path.home() / ".openclaw"


class PollerSection(Section):
    """``[poller]``: one OpenClaw gateway whose conversations keep their models warm."""

    source: SourceName = "auto"
    """``sqlite`` (OpenClaw since 2026.7.2), ``legacy-json`` (older lines), ``gateway-api`` (asks the gateway, needs its
    token), or ``auto``: sqlite where a database is found, else legacy-json."""
    state_dir: Path = Field(default_factory=_state_dir)
    """OpenClaw's state folder: ``OPENCLAW_STATE_DIR``, else ``~/.openclaw``. The gateway's user alone can read it."""
    gateway_url: str = "ws://127.0.0.1:18789"
    """Where the gateway is, for ``gateway-api``. On loopback a shared token is enough; elsewhere it wants a paired
    device."""
    gateway_token_file: Path | None = None
    """A file whose first line is the gateway's token. That is full operator access, so the file belongs to the poller's
    user."""
    publish: Literal["http", "redis"] = "http"
    """``http``: the broker's lease calls. ``redis``: XADD to the ingress stream of ``[store]`` under an ACL user that
    may do nothing else."""
    broker_url: str = "http://127.0.0.1:4687"
    """Where the broker is, for ``http``."""
    api_key_file: Path | None = None
    """For ``http``: a file whose first line is an API key with the scope ``lease``. None: ``HOTSEAT_API_KEY``, else no
    key."""
    publisher: str = Field(default="openclaw", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    """Who publishes, for ``redis``. The API key of the same name owns the leases too; name the plugin's key so."""
    providers: tuple[str, ...] = ("hotseat",)
    """OpenClaw providers whose base URL is the broker: their models keep their names."""
    models: dict[str, Name] = Field(default_factory=dict)
    """The catalogue's names of models, as ``"provider/model" = "name"``, where the two differ."""
    default_model: str | None = Field(default=None, pattern=FULL_NAME)
    """``provider/model`` of ``agents.defaults.model.primary``: a session that has not called a model yet names none."""
    period_s: float = Field(default=10.0, ge=1, le=300)
    """Time between two looks, seconds."""
    active_s: float = Field(default=900.0, ge=10, le=86_400)
    """A session keeps its model warm for this long after somebody spoke in it, seconds: a pause for thought."""
    silent_run_s: float = Field(default=2100.0, ge=60, le=86_400)
    """A run in progress without any sign of life for this long is taken for dead, seconds; OpenClaw's own watchdog ends
    a silent model call after 1,800."""
    ttl_s: float = Field(default=120.0, ge=5, le=3600)
    """A warm lease lives this long unless renewed, seconds: also how soon everything lapses when the poller dies."""
    priority: Literal["interactive", "normal", "background", "batch"] = "normal"
    """Class of the warm leases."""
    max_sessions: int = Field(default=2000, ge=1, le=100_000)
    """The most recently changed sessions of each agent are looked at."""
    log_format: Literal["text", "json"] = "text"
    """``json``: one object per line."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severity that is logged."""

    @field_validator("gateway_url")
    @classmethod
    def _gateway_is_reachable(cls, url: str) -> str:
        address_of(url, ("ws", "wss"))
        return url

    @field_validator("broker_url")
    @classmethod
    def _broker_is_reachable(cls, url: str) -> str:
        address_of(url, ("http", "https"))
        return url

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if self.period_s > self.ttl_s / 2:
            raise ValueError("period_s must be at most half of ttl_s, or leases lapse between two looks")
        if self.source == "gateway-api" and self.gateway_token_file is None:
            raise ValueError("source gateway-api needs gateway_token_file")
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class PollerConfig:
    """All that the poller reads of ``hotseat.toml``: its own section and the store's."""

    store: StoreSection
    poller: PollerSection


def load_config(path: Path | None, environ: Mapping[str, str], flags: Mapping[str, str]) -> PollerConfig:
    """Read and check everything; flags win over the environment, the environment over the file.

    Raises:
        ConfigError: Something is missing, unknown or out of bounds; the message names it.
    """
    source = ConfigSource.read(path, environ)
    for field, value in flags.items():
        source.give("poller", field, value, by="--" + field.replace("_", "-"))
    config = PollerConfig(store=source.section(StoreSection, "store"), poller=source.section(PollerSection, "poller"))
    source.done()
    return config


def secret_of(path: Path, what: str) -> str:
    """Return the first line of a file.

    Raises:
        ConfigError: The file cannot be read or is empty.
    """
    try:
        return secret_in(path).strip()
    except ValueError as error:
        raise ConfigError(ConfigProblem(table="[poller]", key=what, what=str(error))) from None
