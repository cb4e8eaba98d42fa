"""What the session-activity poller costs: its share of a core at 1,000 sessions and a period of 10 s.

An agent database as OpenClaw makes it (entries of 25 kB, write-ahead log, a writer that finishes three turns a second
and rewrites those entries), a real store to publish to. Processor time of the poller's process, user and system, over
whole periods: ``python -m bench.poller``. The target is at most 1 % of a core.
"""

import argparse
import json
import random
import resource
import sqlite3
import statistics
import tempfile
import threading
import time
from pathlib import Path

from harness.redis_servers import VALKEY, RedisServer
from hooks.openclaw.poller.activity import ActivitySettings, ModelNames, Reading, SessionWatch
from hooks.openclaw.poller.poller import Poller, closing
from hooks.openclaw.poller.publishing.redis_stream import RedisPublisher, StoreAddress
from hooks.openclaw.poller.sources.legacy_json import LegacyJsonSource
from hooks.openclaw.poller.sources.port import Source
from hooks.openclaw.poller.sources.sqlite import SqliteSource

RECORDED = Path(__file__).parents[1] / "tests" / "fixtures" / "openclaw" / "agent-2026.9.6-turns.sql"
ENTRY_BYTES = 25_000
"""Measured on a real gateway after one turn."""
TARGET = 0.01


def entry(number: int, now_ms: int) -> str:
    """What OpenClaw keeps of a session, most of it descriptions."""
    known = {"sessionId": f"s{number}", "updatedAt": now_ms, "lastInteractionAt": now_ms, "startedAt": now_ms + 1}
    names = {"modelProvider": "fake", "model": "alpha", "status": "done"}
    return json.dumps({**known, **names, "skillsSnapshot": {"prompt": "x" * ENTRY_BYTES}})


def make_database(folder: Path, sessions: int) -> sqlite3.Connection:
    """One agent's database, its log open."""
    path = folder / "agents" / "main" / "agent"
    path.mkdir(parents=True)
    link = sqlite3.connect(path / "openclaw-agent.sqlite", isolation_level=None, check_same_thread=False)
    link.execute("PRAGMA journal_mode = wal")
    link.executescript(RECORDED.read_text())
    link.execute("DELETE FROM session_nodes")
    now_ms = int(time.time() * 1000)
    link.execute("BEGIN")
    for number in range(sessions):
        key = f"agent:main:{number}"
        link.execute(
            "INSERT INTO session_nodes (session_key, current_session_id, entry_json, updated_at, status, created_via,"
            " last_interaction_at) VALUES (?, ?, ?, ?, 'done', 'operator', ?)",
            (key, f"s{number}", entry(number, now_ms), now_ms, now_ms),
        )
        link.execute(
            "INSERT INTO session_windows (session_id, session_key, created_at, updated_at, started_at, model_provider,"
            " model) VALUES (?, ?, ?, ?, ?, 'fake', 'alpha')",
            (f"s{number}", key, now_ms, now_ms, now_ms + 1),
        )
    link.execute("COMMIT")
    return link


def make_list(folder: Path, sessions: int) -> None:
    """The older lines' session list."""
    path = folder / "agents" / "main" / "sessions"
    path.mkdir(parents=True)
    now_ms = int(time.time() * 1000)
    entries = (f'"agent:main:{number}": {entry(number, now_ms)}' for number in range(sessions))
    (path / "sessions.json").write_text("{" + ", ".join(entries) + "}")


def turns(link: sqlite3.Connection, sessions: int, per_s: float, done: threading.Event) -> float:
    """Finish turns until told to stop; answers this thread's processor time, which is not the poller's."""
    while not done.wait(1 / per_s):
        number, now_ms = random.randrange(sessions), int(time.time() * 1000)
        link.execute(
            "UPDATE session_nodes SET entry_json = ?, updated_at = ?, last_interaction_at = ? WHERE session_key = ?",
            (entry(number, now_ms), now_ms, now_ms, f"agent:main:{number}"),
        )
    return time.thread_time()


def measure(source: Source, store: RedisServer, periods: int, period_s: float) -> list[float]:
    """Processor seconds of this thread for each look after the first, which reads everything."""
    models = ModelNames(names={"fake/alpha": "alpha"}, providers=frozenset())
    publisher = RedisPublisher(
        StoreAddress(url=store.url, pool="bench"), publisher="bench", ttl_s=120.0, priority="normal"
    )
    spent_s: list[float] = []
    kept = 0
    with closing(
        Poller(source, publisher, SessionWatch(settings=ActivitySettings(), models=models), clock=time.monotonic)
    ) as poller:
        for number in range(periods + 1):
            before_s = time.thread_time()
            tick = poller.tick()
            spent_s.append(time.thread_time() - before_s)
            assert tick.plan is not None, tick.why
            kept = tick.plan.kept
            if number < periods:
                time.sleep(period_s)
    print(f"  first look {spent_s[0] * 1000:.0f} ms, {kept} sessions kept warm")
    return spent_s[1:]


def report(name: str, spent_s: list[float], period_s: float) -> float:
    """Print one row; answers the share of a core."""
    share = statistics.mean(spent_s) / period_s
    print(f"  {name}: {statistics.mean(spent_s) * 1000:.1f} ms per look (worst {max(spent_s) * 1000:.1f})")
    print(f"  share of a core: {share:.2%} (target {TARGET:.0%})")
    return share


def main() -> None:
    """Measure both stores."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sessions", type=int, default=1000)
    parser.add_argument("--periods", type=int, default=5)
    parser.add_argument("--period-s", type=float, default=10.0)
    parser.add_argument("--turns-per-s", type=float, default=3.0)
    given = parser.parse_args()
    store = RedisServer(VALKEY).start()
    try:
        with tempfile.TemporaryDirectory() as name:
            print(
                f"sqlite, {given.sessions} sessions, a look every {given.period_s:g} s, {given.turns_per_s:g} turns/s"
            )
            link, done = make_database(Path(name), given.sessions), threading.Event()
            writer = threading.Thread(target=turns, args=(link, given.sessions, given.turns_per_s, done))
            writer.start()
            shares = [
                report(
                    "sqlite",
                    measure(SqliteSource(Path(name), limit=2000), store, given.periods, given.period_s),
                    given.period_s,
                )
            ]
            done.set()
            writer.join()
            link.close()
        with tempfile.TemporaryDirectory() as name:
            print(f"legacy-json, {given.sessions} sessions, the list rewritten before every look")
            make_list(Path(name), given.sessions)
            spent_s = measure(_Touched(LegacyJsonSource(Path(name)), Path(name)), store, given.periods, 0.2)
            shares.append(report("legacy-json", spent_s, given.period_s))
    finally:
        store.close()
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"largest memory of the process, the benchmark's own data included: {peak_mib:.0f} MiB")
    raise SystemExit(0 if max(shares) <= TARGET else 1)


class _Touched:
    """A session list that has changed whenever it is looked at."""

    def __init__(self, source: LegacyJsonSource, folder: Path) -> None:
        self._source, self._folder = source, folder
        self.close = source.close

    def read(self) -> Reading:
        next(self._folder.glob("agents/*/sessions/sessions.json")).touch()
        return self._source.read()


if __name__ == "__main__":
    main()
