"""Sessions from OpenClaw's own databases, one per agent, read while the gateway writes them.

Rule: the schema version is one that was measured, or nothing is read. Of a session's entry only the names of its
model are taken out, inside SQLite: the rest (prompts among it) never enters this process's values.
"""

import sqlite3
import time
from dataclasses import dataclass, field
from pathlib import Path

from hooks.openclaw.poller.activity import Origin, Phase, Reading, SessionReading
from hooks.openclaw.poller.sources.port import SourceError, UnsupportedError
from hooks.openclaw.poller.sources.read_only_vfs import NoReadOnlyError, connect

SUPPORTED = frozenset({23})
"""Database schemas that were measured: 23 is that of OpenClaw 2026.9.6."""
BUSY_S = 1.0
"""How long to wait for a lock of the gateway's, seconds; the next period comes anyway."""
_PHASES = {None: Phase.NEW, "running": Phase.RUNNING, "killed": Phase.STOPPED}
_ORIGINS = {"spawn": Origin.SPAWNED, "cron": Origin.AUTOMATIC, "internal": Origin.AUTOMATIC}
_ROWS = """
SELECT n.session_key, n.status, n.created_via, n.updated_at, n.last_interaction_at,
       w.started_at, w.transcript_updated_at, w.model_provider, w.model
  FROM session_nodes n LEFT JOIN session_windows w ON w.session_id = n.current_session_id
 WHERE n.archived_at IS NULL
 ORDER BY n.updated_at DESC LIMIT ?
"""
_OVERRIDE = """
SELECT json_extract(entry_json, '$.providerOverride'), json_extract(entry_json, '$.modelOverride')
  FROM session_nodes WHERE session_key = ?
"""

_Row = tuple[str, str | None, str | None, int, int | None, int | None, int | None, str | None, str | None]


def databases(state_dir: Path) -> list[Path]:
    """Find the databases under a state folder: one per agent."""
    return sorted(state_dir.glob("agents/*/agent/openclaw-agent.sqlite"))


@dataclass(slots=True)
class _Agent:
    """What is remembered of one database: overrides by session, with the ``updated_at`` they were read at."""

    overrides: dict[str, tuple[int, str | None]] = field(default_factory=dict)


class SqliteSource:
    """Reads all agents of one OpenClaw state folder."""

    def __init__(self, state_dir: Path, *, limit: int) -> None:
        self._state_dir = state_dir
        self._limit = limit
        self._agents: dict[Path, _Agent] = {}

    def read(self) -> Reading:
        """Look once at every agent's database; connections do not outlive the look."""
        paths = databases(self._state_dir)
        if not paths:
            raise SourceError(f"no agents/*/agent/openclaw-agent.sqlite under {self._state_dir}")
        self._agents = {path: self._agents.get(path, _Agent()) for path in paths}
        sessions: list[SessionReading] = []
        faults: list[SourceError] = []
        for path, agent in self._agents.items():
            try:
                sessions += self._read_one(path, agent)
            except SourceError as error:
                faults.append(error)
        if len(faults) == len(paths):
            raise faults[0]
        return Reading(sessions=tuple(sessions), now_s=time.time(), faults=tuple(str(fault) for fault in faults))

    def close(self) -> None:
        """Do nothing: connections do not outlive a look."""

    def _read_one(self, path: Path, agent: _Agent) -> list[SessionReading]:
        try:
            connection = connect(path, timeout_s=BUSY_S)
        except NoReadOnlyError as error:
            raise UnsupportedError(str(error)) from error
        except sqlite3.Error as error:
            raise _unreadable(path, error) from error
        try:
            connection.execute("BEGIN")
            _check_schema(path, connection)
            rows: list[_Row] = connection.execute(_ROWS, (self._limit,)).fetchall()
            agent.overrides = {row[0]: _override(connection, row, agent) for row in rows}
        except sqlite3.Error as error:
            raise _unreadable(path, error) from error
        finally:
            connection.close()
        return [_session(row, agent.overrides[row[0]][1]) for row in rows]


def _check_schema(path: Path, connection: sqlite3.Connection) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version not in SUPPORTED:
        known = ", ".join(str(number) for number in sorted(SUPPORTED))
        raise UnsupportedError(
            f"{path}: schema {version} is unknown here (known: {known}); get a newer Hotseat, or use source gateway-api"
        )


def _override(connection: sqlite3.Connection, row: _Row, agent: _Agent) -> tuple[int, str | None]:
    """Return the model set with ``/model``; an entry has tens of kilobytes, so only a changed one is looked into."""
    key, updated_at = row[0], row[3]
    known = agent.overrides.get(key)
    if known is not None and known[0] == updated_at:
        return known
    found = connection.execute(_OVERRIDE, (key,)).fetchone()
    return updated_at, _full_name(*found) if found else None


def _session(row: _Row, override: str | None) -> SessionReading:
    key, status, via, updated_at, interacted, started, transcript, provider, model = row
    return SessionReading(
        key=key,
        origin=_ORIGINS.get(via or "", Origin.PERSON),
        phase=_PHASES.get(status, Phase.RESTING),
        model=override or _full_name(provider, model),
        interacted_s=_seconds(interacted),
        run_started_s=_seconds(started),
        sign_s=_seconds(max(updated_at, transcript or 0)),
    )


def _full_name(provider: str | None, model: str | None) -> str | None:
    return f"{provider}/{model}" if provider and model else None


def _seconds(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000


def _unreadable(path: Path, error: sqlite3.Error) -> SourceError:
    word = str(error)
    if "no such table" in word or "no such column" in word or "not a database" in word:
        return UnsupportedError(f"{path} is not the database this poller knows: {word}")
    if "unable to open" in word and path.exists() and not path.with_name(f"{path.name}-wal").exists():
        return SourceError(f"{path}: no gateway is running, or it is about to start")
    return SourceError(f"{path}: {word}")
