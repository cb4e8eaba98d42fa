"""Sessions read from stores recorded on real gateways, sound and damaged."""

import json
import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from hooks.openclaw.poller.activity import ActivitySettings, ModelNames, Origin, Phase, SessionWatch
from hooks.openclaw.poller.sources.auto import AutoSource
from hooks.openclaw.poller.sources.legacy_json import LegacyJsonSource
from hooks.openclaw.poller.sources.port import SourceError, UnsupportedError
from hooks.openclaw.poller.sources.sqlite import SqliteSource

MODELS = ModelNames(names={}, providers=frozenset({"fake"}), default="fake/alpha")


def by_name(source):
    """Sessions by the last word of their key."""
    return {session.key.rsplit(":", 1)[1]: session for session in source.read().sessions}


def kept(sessions, now_s: float, **settings) -> dict[str, str]:
    """What the rule makes of a recording."""
    watch = SessionWatch(settings=ActivitySettings(**settings), models=MODELS)
    verdicts = {name: watch.judge(session, now_s, 0.0) for name, session in sessions.items()}
    return {name: MODELS.ours(sessions[name].model) for name, verdict in verdicts.items() if verdict == "keep"}


def test_sqlite_as_recorded(agent_database, tmp_path: Path):
    agent_database("turns")
    sessions = by_name(SqliteSource(tmp_path, limit=100))
    assert sessions["two"].model == "fake/beta"  # set with /model, nothing said since
    assert (sessions["long"].phase, sessions["long"].model) == (Phase.RUNNING, None)
    assert sessions["slowone"].phase is Phase.STOPPED
    child = next(
        session for session in sessions.values() if session.origin is Origin.SPAWNED and "36408a26" in session.key
    )
    assert (child.phase, child.model) == (Phase.NEW, "fake/beta")  # its model is on the way before it asks
    assert all(session.origin is Origin.AUTOMATIC for session in sessions.values() if ":cron:" in session.key)
    now_s = max(session.sign_s for session in sessions.values())
    child_name = child.key.rsplit(":", 1)[1]
    expected = {"long": "alpha", child_name: "beta", "main": "alpha", "fresh": "alpha", "parent2": "alpha"}
    assert kept(sessions, now_s, active_s=120) == expected


def test_sqlite_heartbeat_is_no_conversation(agent_database, tmp_path: Path):
    agent_database("heartbeat")
    sessions = by_name(SqliteSource(tmp_path, limit=100))
    assert sessions["main"].phase is Phase.RUNNING
    now_s = sessions["main"].sign_s
    assert "main" not in kept(sessions, now_s, active_s=60)
    assert "main" in kept(sessions, now_s, active_s=120)  # somebody spoke there 83 s before


def test_legacy_json_as_recorded(recorded: Path, tmp_path: Path):
    sessions = by_name(legacy(recorded, tmp_path, "turns"))
    now_s = max(session.sign_s for session in sessions.values())
    child_name = next(name for name, session in sessions.items() if "subagent" in session.key)
    expected = {"main": "alpha", "two": "beta", "slowone": "alpha", "parent": "alpha", child_name: "beta"}
    assert kept(sessions, now_s, active_s=120) == expected
    assert kept(sessions, now_s, active_s=15) == {name: expected[name] for name in ("slowone", "parent", child_name)}


def test_legacy_heartbeat_is_no_conversation(recorded: Path, tmp_path: Path):
    sessions = by_name(legacy(recorded, tmp_path, "heartbeat"))
    assert "main" not in kept(sessions, sessions["main"].sign_s, active_s=90)


def legacy(recorded: Path, tmp_path: Path, moment: str) -> LegacyJsonSource:
    folder = tmp_path / "agents" / "main" / "sessions"
    folder.mkdir(parents=True)
    shutil.copy(recorded / f"sessions-2026.7.35-{moment}.json", folder / "sessions.json")
    return LegacyJsonSource(tmp_path)


def test_a_model_set_between_two_looks_is_seen(agent_database, tmp_path: Path):
    path = agent_database("turns")
    source = SqliteSource(tmp_path, limit=100)
    assert by_name(source)["main"].model == "fake/alpha"
    with sqlite3.connect(path) as writer:
        change = "json_set(entry_json, '$.providerOverride', 'fake', '$.modelOverride', 'beta')"
        writer.execute(
            f"UPDATE session_nodes SET entry_json = {change}, updated_at = updated_at + 1"
            " WHERE session_key = 'agent:main:main'"
        )
    writer.close()
    assert by_name(source)["main"].model == "fake/beta"


def test_only_the_latest_sessions_are_looked_at(agent_database, tmp_path: Path):
    agent_database("turns")
    assert len(SqliteSource(tmp_path, limit=3).read().sessions) == 3


@pytest.mark.parametrize("source", [LegacyJsonSource, lambda folder: SqliteSource(folder, limit=10)])
def test_a_missing_store_is_said_and_found_once_it_is_there(source, tmp_path: Path):
    with pytest.raises(SourceError, match="no agents/"):
        source(tmp_path).read()


def test_a_store_left_by_a_gateway_that_stopped_is_said_to_be_one(agent_database, tmp_path: Path):
    agent_database(stay_open=False)
    with pytest.raises(SourceError, match="no gateway is running"):
        SqliteSource(tmp_path, limit=10).read()


def test_auto_takes_what_appears_and_prefers_the_database(agent_database, recorded: Path, tmp_path: Path):
    source = AutoSource(tmp_path, limit=100)
    with pytest.raises(SourceError, match="no gateway has run there yet"):
        source.read()
    legacy(recorded, tmp_path, "turns")
    assert "killed" in by_name(source)
    agent_database("turns")
    assert "slowone" in by_name(source)
    assert "killed" not in by_name(source)


def test_an_unknown_schema_is_refused_by_its_number(agent_database, tmp_path: Path):
    with sqlite3.connect(agent_database()) as writer:
        writer.execute("PRAGMA user_version = 24")
    writer.close()
    with pytest.raises(UnsupportedError, match="schema 24 is unknown here"):
        SqliteSource(tmp_path, limit=10).read()


def test_a_table_that_lost_a_column_is_refused(agent_database, tmp_path: Path):
    with sqlite3.connect(agent_database()) as writer:
        writer.execute("ALTER TABLE session_windows RENAME COLUMN transcript_updated_at TO moved")
    writer.close()
    with pytest.raises(UnsupportedError, match="transcript_updated_at"):
        SqliteSource(tmp_path, limit=10).read()


def test_what_is_no_database_is_refused(tmp_path: Path):
    folder = tmp_path / "agents" / "main" / "agent"
    folder.mkdir(parents=True)
    (folder / "openclaw-agent.sqlite").write_bytes(b"x" * 8192)
    with pytest.raises(UnsupportedError, match="not a database"):
        SqliteSource(tmp_path, limit=10).read()


def test_a_locked_database_is_a_passing_fault(agent_database, tmp_path: Path, monkeypatch):
    monkeypatch.setattr("hooks.openclaw.poller.sources.sqlite.BUSY_S", 0.05)
    path = agent_database(stay_open=False)
    source = SqliteSource(tmp_path, limit=10)
    with closing(sqlite3.connect(path, isolation_level=None)) as locker:
        for statement in ("PRAGMA locking_mode = exclusive", "UPDATE session_nodes SET label = 'x'"):
            locker.execute(statement)
        with pytest.raises(SourceError, match="database is locked") as raised:
            source.read()
        assert type(raised.value) is SourceError
    with closing(sqlite3.connect(path)) as gateway:  # restarted
        gateway.execute("SELECT * FROM schema_meta").fetchall()
        assert len(source.read().sessions) == 10


def test_a_writer_in_the_middle_of_its_work_holds_up_no_reader(agent_database, tmp_path: Path):
    path = agent_database()
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("BEGIN EXCLUSIVE")
        writer.execute("UPDATE session_nodes SET updated_at = 9999999999999")
        reading = SqliteSource(tmp_path, limit=10).read()
    assert max(session.sign_s for session in reading.sessions) < 9e9


def test_one_damaged_agent_does_not_hide_the_others(agent_database, tmp_path: Path):
    agent_database(agent="main")
    with sqlite3.connect(agent_database(agent="other")) as writer:
        writer.execute("PRAGMA user_version = 99")
    writer.close()
    reading = SqliteSource(tmp_path, limit=10).read()
    assert len(reading.sessions) == 10
    assert "schema 99" in reading.faults[0]


@pytest.mark.parametrize(
    "text, error",
    [
        ('{"agent:main:main": {"updatedAt": 17', SourceError),
        ("", SourceError),
        ('["agent:main:main"]', UnsupportedError),
        ('{"agent:main:main": {"updatedAt": "yesterday"}}', UnsupportedError),
    ],
)
def test_a_torn_session_list_passes_and_a_strange_one_does_not(recorded: Path, tmp_path: Path, text: str, error):
    source = legacy(recorded, tmp_path, "turns")
    source.read()
    (tmp_path / "agents/main/sessions/sessions.json").write_text(text)
    with pytest.raises(error) as raised:
        source.read()
    assert type(raised.value) is error


def test_a_transcript_that_grows_is_a_sign_of_life(recorded: Path, tmp_path: Path):
    source = legacy(recorded, tmp_path, "turns")
    before = by_name(source)["slowone"]
    entries = json.loads((recorded / "sessions-2026.7.35-turns.json").read_text())
    transcript = tmp_path / "agents/main/sessions" / f"{entries['agent:main:slowone']['sessionId']}.jsonl"
    transcript.touch()
    os.utime(transcript, (before.sign_s + 300, before.sign_s + 300))
    assert by_name(source)["slowone"].sign_s == before.sign_s + 300
