"""``[[key]]`` of ``hotseat.toml``: who may call, for what, and within which limits."""

from collections.abc import Iterable
from fnmatch import fnmatchcase

from pydantic import Field

from broker.access.principals import Scope
from broker.core.lease import Priority
from broker.protocol.profiles import Profile
from schemas.config.file import ConfigSource, Name, Section
from schemas.config.problems import near
from schemas.config.routing import TaskWord


class KeyEntry(Section):
    """``[[key]]``: an API key. ``hotseat key new NAME`` makes one and prints this table."""

    name: Name = Field(max_length=64)
    """Name of the key: it is in the audit log, and owns the leases that it asked for."""
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """SHA-256 of the key, hexadecimal: the file does not hold the key."""
    scopes: tuple[Scope, ...] = Field(default=(Scope.LEASE,), min_length=1)
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
    only_if_warm: bool = False
    """Are its requests to ``/v1`` served only while their model is loaded, as with ``x-hotseat-only-if-warm``? For
    heartbeats and other work that nobody misses."""
    private: bool = False
    """Nothing it sends may ever leave."""
    deadline_s: float | None = Field(default=None, gt=0, le=86_400)
    """When the first byte of its requests is wanted that have no ``x-hotseat-deadline-s``, seconds. None: as the alias
    says."""
    task: TaskWord | None = None
    """What its requests are for, unless they say so with ``x-hotseat-task``. None: the alias's, else as they show."""
    day_budget: float | None = Field(default=None, ge=0, le=1e9)
    """What it may spend at upstreams in a UTC day, in the currency of the prices. None: no limit of its own."""
    month_budget: float | None = Field(default=None, ge=0, le=1e9)
    """The same for a calendar month."""


def keys_of(source: ConfigSource) -> tuple[KeyEntry, ...]:
    """All keys of the file; notes tables that are wrong, and two with the same name or secret."""
    entries = source.raw.get("key", [])
    for field in ("name", "sha256"):
        seen: set[object] = set()
        for index, entry in enumerate(entries if isinstance(entries, list) else []):
            value = entry.get(field) if isinstance(entry, dict) else None
            if isinstance(value, str) and value in seen:
                source.blame(f"another [[key]] has the same {field}", "key", index, field)
            seen.add(value if isinstance(value, str) else None)
    return source.tables(KeyEntry, "key")


def check_models(source: ConfigSource) -> None:
    """Note the models of keys that there are not: such a key could use less than its owner thinks."""
    served = [*source.names("model"), *source.names("routing", "upstream", "model")]
    aliases = {*source.names("routing", "alias"), *source.names("routing", "family")}
    entries = source.raw.get("key", [])
    for index, entry in enumerate(entries if isinstance(entries, list) else []):
        models = entry.get("models") if isinstance(entry, dict) else None
        for name in models if isinstance(models, list) else []:
            if not isinstance(name, str) or name in served or _is_pattern(name):
                continue
            meant = "it leads to others; name the models that may serve" if name in aliases else near(name, served)
            source.blame(f"{name!r} is no model; {meant}", "key", index, "models")


def names_nobody(key: KeyEntry, served: Iterable[str]) -> list[str]:
    """Warnings: patterns of a key that match no model of today."""
    listed = tuple(served)
    empty = [one for one in key.models if not any(fnmatchcase(name, one) for name in listed)]
    return [f'[[key]] "{key.name}": models: no model matches {pattern!r}' for pattern in empty]


def _is_pattern(name: str) -> bool:
    return any(sign in name for sign in "*?[")
