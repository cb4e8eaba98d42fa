"""Sessions of the older OpenClaw lines that are still published: one ``sessions.json`` per agent (2026.7.35)."""

import time
from dataclasses import dataclass
from pathlib import Path

import msgspec

from hooks.openclaw.poller.activity import Origin, Phase, Reading, SessionReading
from hooks.openclaw.poller.sources.port import SourceError, UnsupportedError

MAX_BYTES = 256 * 1024 * 1024
"""Longest file that is read, bytes; an entry is about 25 KiB, most of it the skills' descriptions."""
_PHASES = {None: Phase.NEW, "running": Phase.RUNNING, "killed": Phase.STOPPED}


class _Entry(msgspec.Struct, rename="camel"):
    """The fields that are read of a session; everything else is skipped while parsing."""

    session_id: str = ""
    updated_at: float | None = None
    last_interaction_at: float | None = None
    started_at: float | None = None
    status: str | None = None
    spawned_by: str | None = None
    model_provider: str | None = None
    model: str | None = None
    provider_override: str | None = None
    model_override: str | None = None


@dataclass(frozen=True, slots=True)
class _File:
    """A parsed file and the state it was parsed in."""

    state: tuple[int, int, int]
    entries: dict[str, _Entry]


_decoder = msgspec.json.Decoder(dict[str, _Entry])


def files(state_dir: Path) -> list[Path]:
    """Find the session lists under a state folder: one per agent."""
    return sorted(state_dir.glob("agents/*/sessions/sessions.json"))


class LegacyJsonSource:
    """Reads all agents of one OpenClaw state folder."""

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir
        self._files: dict[Path, _File] = {}

    def read(self) -> Reading:
        """Look once; a file that has not changed is not parsed again."""
        paths = files(self._state_dir)
        if not paths:
            raise SourceError(f"no agents/*/sessions/sessions.json under {self._state_dir}")
        self._files = {path: self._files[path] for path in paths if path in self._files}
        sessions: list[SessionReading] = []
        faults: list[SourceError] = []
        for path in paths:
            try:
                entries = self._entries(path)
            except SourceError as error:
                faults.append(error)
            else:
                sessions += [_session(path.parent, key, entry) for key, entry in entries.items()]
        if len(faults) == len(paths):
            raise faults[0]
        return Reading(sessions=tuple(sessions), now_s=time.time(), faults=tuple(str(fault) for fault in faults))

    def close(self) -> None:
        """Do nothing: no file stays open."""

    def _entries(self, path: Path) -> dict[str, _Entry]:
        try:
            found = path.stat()
            state = (found.st_ino, found.st_mtime_ns, found.st_size)
            known = self._files.get(path)
            if known is not None and known.state == state:
                return known.entries
            if found.st_size > MAX_BYTES:
                raise UnsupportedError(f"{path} is larger than {MAX_BYTES // 2**20} MiB")
            entries = _decoder.decode(path.read_bytes())
        except OSError as error:
            raise SourceError(f"{path}: {error.strerror}") from error
        except msgspec.ValidationError as error:
            raise UnsupportedError(f"{path} is not the session list this poller knows: {error}") from error
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise SourceError(f"{path} is not whole, perhaps being written: {error}") from error
        self._files[path] = _File(state, entries)
        return entries


def _session(folder: Path, key: str, entry: _Entry) -> SessionReading:
    phase = _PHASES.get(entry.status, Phase.RESTING)
    sign_s = _seconds(entry.updated_at)
    if phase is Phase.RUNNING:
        sign_s = max(sign_s or 0.0, _written_s(folder, entry.session_id))
    return SessionReading(
        key=key,
        origin=Origin.AUTOMATIC if ":cron:" in key else Origin.SPAWNED if entry.spawned_by else Origin.PERSON,
        phase=phase,
        model=_full_name(entry.provider_override, entry.model_override)
        or _full_name(entry.model_provider, entry.model),
        interacted_s=_seconds(entry.last_interaction_at),
        run_started_s=_seconds(entry.started_at),
        sign_s=sign_s,
    )


def _written_s(folder: Path, session_id: str) -> float:
    """Return when the transcript was last added to; the list itself does not change during a run."""
    if not session_id or "/" in session_id:
        return 0.0
    try:
        return (folder / f"{session_id}.jsonl").stat().st_mtime
    except OSError:
        return 0.0


def _full_name(provider: str | None, model: str | None) -> str | None:
    return f"{provider}/{model}" if provider and model else None


def _seconds(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000
