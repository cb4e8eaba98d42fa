"""Reads whichever store is there: looked for at every look, so a poller may start before the gateway ever ran."""

from pathlib import Path

from hooks.openclaw.poller.activity import Reading
from hooks.openclaw.poller.sources.legacy_json import LegacyJsonSource, files
from hooks.openclaw.poller.sources.port import SourceError
from hooks.openclaw.poller.sources.sqlite import SqliteSource, databases


class AutoSource:
    """Reads databases where there are any (an upgraded gateway leaves its old list behind), else session lists."""

    def __init__(self, state_dir: Path, *, limit: int) -> None:
        self._state_dir = state_dir
        self._sqlite = SqliteSource(state_dir, limit=limit)
        self._legacy = LegacyJsonSource(state_dir)

    def read(self) -> Reading:
        """Look once at what is there now."""
        if databases(self._state_dir):
            return self._sqlite.read()
        if files(self._state_dir):
            return self._legacy.read()
        raise SourceError(f"no sessions under {self._state_dir}: no gateway has run there yet, or it is another folder")

    def close(self) -> None:
        """Do nothing: no connection outlives a look."""
