"""What a run leaves behind: the store's events, what clients saw, which processes lived.

Plain values with one line of JSON each, so a run that failed can be judged again from its files.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One entry of ``P:events`` (docs/internals.md section 6)."""

    seq: int
    kind: str
    at_ms: int
    """Logical clock of the store."""
    fields: Mapping[str, str] = field(default_factory=dict)
    event_id: str = ""
    """Stream id."""
    seen_s: float = 0.0
    """Monotonic time of the observer when it read the entry; 0: read after the run."""

    def get(self, name: str) -> str:
        """A field, or nothing."""
        return self.fields.get(name, "")

    @property
    def gen(self) -> int:
        """Generation the entry speaks of; 0 without one."""
        return int(self.get("gen") or 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One thing a client wanted, all its retries included."""

    client: str
    kind: str
    """``acquire``, ``poll``, ``renew``, ``release`` or ``use``."""
    invoke_s: float
    """Monotonic time of the observer before the first byte left."""
    return_s: float
    """Same clock, after the last byte came; for an unknown outcome the moment the client gave up."""
    outcome: str
    """``ok``, ``refused`` (a definite no) or ``unknown``."""
    lease: str = ""
    nonce: str = ""
    sh: str = ""
    model: str = ""
    intent: str = "use"
    state: str = ""
    """State in the answer."""
    reason: str = ""
    operation: str = ""
    """Idempotency key."""
    key: str = ""
    """API key of the endpoint, for ``use``."""
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """One model server process as seen in ``/proc``."""

    pid: int
    started: int
    slot: str
    model: str
    key: str
    """What makes two processes the same load: they bear the same mark."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """All model servers alive at one moment."""

    at_s: float
    servers: tuple[Server, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """A broken invariant."""

    invariant: str
    subject: str
    detail: str
    seq: int = 0

    def __str__(self) -> str:
        where = f" at seq {self.seq}" if self.seq else ""
        return f"{self.invariant}{where}: {self.subject}: {self.detail}"


def entry_of(event_id: str, fields: Mapping[str, str], *, seen_s: float = 0.0) -> Entry:
    """An entry as ``XRANGE`` answers it."""
    rest = {name: value for name, value in fields.items() if name not in {"seq", "type", "t"}}
    return Entry(
        seq=int(fields["seq"]),
        kind=fields["type"],
        at_ms=int(fields["t"]),
        fields=rest,
        event_id=event_id,
        seen_s=seen_s,
    )


def dump(path: Path, records: Iterable[Any]) -> None:
    """Write dataclasses as JSON lines."""
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(asdict(record)) + "\n" for record in records)


def load_entries(path: Path) -> list[Entry]:
    """Read what ``dump`` wrote of entries."""
    return [Entry(**row) for row in _rows(path)]


def load_operations(path: Path) -> list[Operation]:
    """Read what ``dump`` wrote of operations."""
    return [Operation(**row) for row in _rows(path)]


def load_samples(path: Path) -> list[Sample]:
    """Read what ``dump`` wrote of samples."""
    return [
        Sample(at_s=row["at_s"], servers=tuple(Server(**server) for server in row["servers"])) for row in _rows(path)
    ]


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)
