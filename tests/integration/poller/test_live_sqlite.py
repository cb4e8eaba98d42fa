"""A database that is written all the time: read consistently, never waited for, never opened for writing."""

import json
import re
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from hooks.openclaw.poller.sources.sqlite import SqliteSource

WRITER = """
import itertools, sqlite3, sys, time
link = sqlite3.connect(sys.argv[1], isolation_level=None)
for number in itertools.count(1):
    link.execute("BEGIN IMMEDIATE")
    link.execute("UPDATE session_nodes SET updated_at = ?, last_interaction_at = ?", (number, number))
    link.execute("UPDATE session_windows SET transcript_updated_at = ?", (number,))
    link.execute("COMMIT")
    if number == 1:
        print("writing", flush=True)
    if number % 50 == 0:
        link.execute("PRAGMA wal_checkpoint(TRUNCATE)")
"""
ONCE = "import sys; from hooks.openclaw.poller.cli import main; sys.exit(main(sys.argv[1:]))"
WRITES = re.compile(r"O_RDWR|O_WRONLY|O_CREAT|O_TRUNC|O_APPEND")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """A gateway that never rests."""
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield
        assert process.poll() is None, "the writer was disturbed"
    finally:
        process.kill()
        process.communicate()


def read_for(seconds: float, tmp_path: Path) -> list[float]:
    """Look all the time; each look is consistent in itself and no older than the one before."""
    source = SqliteSource(tmp_path, limit=100)
    last, took_s = 0.0, []
    deadline_s = time.monotonic() + seconds
    while time.monotonic() < deadline_s:
        started_s = time.perf_counter()
        sessions = source.read().sessions
        took_s.append(time.perf_counter() - started_s)
        stamps = {session.interacted_s for session in sessions} | {session.sign_s for session in sessions}
        assert len(sessions) == 15
        assert len(stamps) == 1, "half of a transaction was seen"
        assert max(stamps) >= last
        last = max(stamps)
        time.sleep(0.01)
    assert last > 0.01
    return took_s


def test_five_seconds_under_writes(agent_database, tmp_path: Path):
    path = agent_database()
    with writing(path):
        took_s = read_for(5.0, tmp_path)
    assert len(took_s) > 50
    with closing(sqlite3.connect(path)) as check:
        assert check.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


@pytest.mark.long
def test_sixty_seconds_under_writes(agent_database, tmp_path: Path):
    path = agent_database()
    with writing(path):
        took_s = read_for(60.0, tmp_path)
    assert len(took_s) > 1000
    assert sorted(took_s)[len(took_s) // 2] < 0.1
    with closing(sqlite3.connect(path)) as check:
        assert check.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace (Debian: apt install strace)")
@pytest.mark.parametrize("alive", [True, False], ids=["gateway runs", "gateway is gone"])
def test_the_operating_system_sees_no_open_for_writing(agent_database, tmp_path: Path, alive: bool):
    path = agent_database(stay_open=alive)
    opened = traced(tmp_path, expected=0 if alive else None)
    mine = [line for line in opened if str(path) in line]
    assert mine, "the database was not even opened"
    assert not [line for line in mine if WRITES.search(line)]
    assert not [line for line in opened if str(tmp_path / "agents") in line and WRITES.search(line)]


def traced(tmp_path: Path, *, expected: int | None) -> list[str]:
    """Every open of one look of the command, as the kernel saw it."""
    log = tmp_path / "trace"
    argv = ["strace", "-f", "-qq", "-o", str(log), "-e", "trace=open,openat,openat2,creat,rename,unlink,truncate"]
    command = [sys.executable, "-c", ONCE, "--once", "--dry-run", "--json", "--state-dir", str(tmp_path)]
    done = subprocess.run([*argv, *command], capture_output=True, text=True, timeout=60, check=False)
    if expected is not None:
        assert done.returncode == expected, done.stderr
        assert json.loads(done.stdout)["sessions"] == 15
    return log.read_text().splitlines()
