"""``[[key]]`` of ``hotseat.toml``: who may call, for what, and within which limits."""

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from broker.core.lease import Priority
from broker.gateway.profiles import Profile
from broker.principals import Scope
from schemas.config_file import ConfigError, Name, Section, section_of


class KeyEntry(Section):
    """``[[key]]``: an API key. ``hotseat key new NAME`` makes one and prints this table."""

    name: Name = Field(max_length=64)
    """Who it is; in the audit log, and owner of the leases it asked for."""
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """SHA-256 of the key, hexadecimal: the file does not hold the key."""
    scopes: tuple[Scope, ...] = (Scope.LEASE,)
    """lease (ask, renew, release), observe (look at everything), operate (slots, revoke), admin (all)."""
    models: tuple[str, ...] = ()
    """Models it may use, ``*`` and ``?`` allowed; empty: all."""
    max_priority: Priority = Priority.INTERACTIVE
    """Most urgent class it may ask for."""
    max_ttl_s: float | None = Field(default=None, ge=1, le=86_400)
    """Longest TTL it may ask for, seconds; None: ``limits.ttl_max_s``."""
    max_open: int = Field(default=0, ge=0, le=1_000_000)
    """Live leases it may have at once; 0: no limit."""
    rate_per_s: float = Field(default=0.0, ge=0, le=1_000_000)
    """Requests per second in the long run, two seconds' worth at once; 0: no limit. Per broker process."""
    priority: Priority | None = None
    """Class of its requests to ``/v1`` that name none; None: normal."""
    profile: Profile | None = None
    """What its streams to ``/v1`` are sent while they wait: openai, anthropic, reasoning, comment or none. None: as the
    request says, or by its protocol."""
    strict: bool | None = None
    """Are the answers to its requests that name a JSON schema held against it, as with ``x-hotseat-validate: strict``?
    None: as the ``[[model]]`` says, else ``[gateway]``."""
    private: bool = False
    """Nothing it sends may ever leave."""
    deadline_s: float | None = Field(default=None, gt=0, le=86_400)
    """For its requests without ``x-hotseat-deadline-s``: seconds until the first byte. None: the alias's."""
    day_budget: float | None = Field(default=None, ge=0, le=1e9)
    """What it may spend at upstreams in a UTC day, in the currency of the prices. None: no limit of its own."""
    month_budget: float | None = Field(default=None, ge=0, le=1e9)
    """The same for a calendar month."""


def keys_of(raw: Mapping[str, Any]) -> tuple[KeyEntry, ...]:
    """All keys of the file.

    Raises:
        ConfigError: A table is wrong, or two have the same name or secret.
    """
    tables = raw.get("key", [])
    if not isinstance(tables, list):
        raise ConfigError("key: write [[key]], one table per API key")
    keys = tuple(section_of(KeyEntry, {f"key[{i}]": table}, f"key[{i}]") for i, table in enumerate(tables))
    for field in ("name", "sha256"):
        values = [getattr(key, field) for key in keys]
        if len(set(values)) != len(values):
            raise ConfigError(f"key: two entries have the same {field}")
    return keys
