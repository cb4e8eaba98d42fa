"""The poller's part of ``hotseat.toml``: ``[poller]``, beside the shared ``[store]``."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from schemas.config_file import ConfigError, Name, Section, StoreSection, load_toml, section_of

FULL_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}/[^\s]{1,190}$"
"""``provider/model`` as OpenClaw writes it."""
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
    gateway_url: str = Field(default="ws://127.0.0.1:18789", pattern=r"^wss?://")
    """For ``gateway-api``. On loopback a shared token is enough; elsewhere the gateway wants a paired device."""
    gateway_token_file: Path | None = None
    """First line: the gateway's token. It is full operator access, so it stays in a file of the poller's user."""
    publish: Literal["http", "redis"] = "http"
    """``http``: the broker's lease calls. ``redis``: XADD to the ingress stream of ``[store]`` under an ACL user that
    may do nothing else."""
    broker_url: str = Field(default="http://127.0.0.1:4687", pattern=r"^https?://")
    """For ``http``."""
    api_key_file: Path | None = None
    """For ``http``; first line: an API key with the scope ``lease``. None: ``HOTSEAT_API_KEY``, else none."""
    publisher: str = Field(default="openclaw", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    """For ``redis``: who published it. The API key of the same name owns the leases too; name the plugin's key so."""
    providers: tuple[str, ...] = ("hotseat",)
    """OpenClaw providers whose base URL is the broker: their models keep their names."""
    models: dict[str, Name] = Field(default_factory=dict)
    """``"provider/model" = "name in our catalogue"``, where the names differ."""
    default_model: str | None = Field(default=None, pattern=FULL_NAME)
    """``provider/model`` of ``agents.defaults.model.primary``: a session that has not called a model yet names none."""
    period_s: float = Field(default=10.0, ge=1, le=300)
    """Between two looks, seconds."""
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

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if self.period_s > self.ttl_s / 2:
            raise ValueError("period_s must be at most half of ttl_s, or leases lapse between two looks")
        if self.source == "gateway-api" and self.gateway_token_file is None:
            raise ValueError("source gateway-api needs gateway_token_file")
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """All the poller reads."""

    store: StoreSection
    poller: PollerSection


def load_config(path: Path | None, environ: Mapping[str, str], flags: Mapping[str, str]) -> Config:
    """Read and check everything; flags win over the environment, the environment over the file.

    Raises:
        ConfigError: Something is missing, unknown or out of bounds; the message names it.
    """
    raw = load_toml(path, environ)
    section = raw.setdefault("poller", {})
    if not isinstance(section, dict):
        raise ConfigError("poller: write [poller], one table")
    section.update(flags)
    return Config(store=section_of(StoreSection, raw, "store"), poller=section_of(PollerSection, raw, "poller"))


def secret_of(path: Path, what: str) -> str:
    """The first line of a file.

    Raises:
        ConfigError: It cannot be read or is empty.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ConfigError(f"poller.{what} cannot be read: {error.strerror}") from error
    if not lines or not lines[0].strip():
        raise ConfigError(f"poller.{what} is empty")
    return lines[0].strip()
