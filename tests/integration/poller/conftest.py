"""OpenClaw's stores as recorded, laid out as in its state folder."""

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

FIXTURES = Path(__file__).parents[2] / "fixtures" / "openclaw"


@pytest.fixture
def recorded() -> Path:
    return FIXTURES


@pytest.fixture
def agent_database(tmp_path: Path) -> Callable[..., Path]:
    """Make one agent's live database from a recording; its write-ahead log stays open until the test ends."""
    writers = []

    def make(recording: str = "turns", agent: str = "main", *, stay_open: bool = True) -> Path:
        folder = tmp_path / "agents" / agent / "agent"
        folder.mkdir(parents=True)
        path = folder / "openclaw-agent.sqlite"
        writer = sqlite3.connect(path, isolation_level=None)
        writers.append(writer)
        writer.execute("PRAGMA journal_mode = wal")
        writer.executescript((FIXTURES / f"agent-2026.9.6-{recording}.sql").read_text())
        if not stay_open:
            writer.close()
        return path

    yield make
    for writer in writers:
        writer.close()
