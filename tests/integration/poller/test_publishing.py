"""Warm leases published to a real broker on a real store, over both ways, alone and beside a plugin."""

import contextlib
import json
import logging
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
import redis

from harness.broker_process import BrokerProcess
from harness.redis_servers import VALKEY, RedisServer
from harness.worker import FakeWorker
from hooks.openclaw.poller.activity import ActivitySettings, ModelNames, SessionWatch, Warm
from hooks.openclaw.poller.cli import main
from hooks.openclaw.poller.poller import Poller, TickFailure
from hooks.openclaw.poller.publishing.http_api import HttpPublisher
from hooks.openclaw.poller.publishing.redis_stream import RedisPublisher, StoreAddress
from hooks.openclaw.poller.sources.sqlite import SqliteSource
from tests.fakes.broker_scene import until

pytestmark = pytest.mark.redis
MAIN = Warm(session="agent:main:main", model="a")
MODELS = ModelNames(names={"fake/alpha": "a", "fake/beta": "b"}, providers=frozenset(), default="fake/alpha")
NAMED = {"sessionKey": MAIN.session, "model": MAIN.model, "intent": "warm"}
INGRESS = "hotseat:{default}:ingress"


@pytest.fixture(scope="module")
def scene() -> Iterator[tuple[RedisServer, BrokerProcess]]:
    server = RedisServer(VALKEY).start()
    broker = BrokerProcess(server.url).until_ready()
    try:
        yield server, broker
    finally:
        broker.stop()
        server.close()


@pytest.fixture(params=["redis", "http"])
async def publisher(request, scene) -> AsyncIterator[RedisPublisher | HttpPublisher]:
    server, broker = scene
    redis.Redis(unix_socket_path=str(server.socket)).delete(INGRESS)
    one = publisher_of(request.param, server.url, broker.url)
    async with FakeWorker.on_redis(server.url, serves=("a", "b")).running():
        await until(lambda: any(slot["state"] == "open" for slot in get(broker, "/status")["slots"]))
        yield one
        for lease in leases(broker):
            post(broker, "/release", {"sessionKey": lease["sessionKey"], "model": lease["model"], "intent": "warm"})
    one.close()


def publisher_of(way: str, store_url: str, broker_url: str, ttl_s: float = 120.0) -> RedisPublisher | HttpPublisher:
    if way == "http":
        return HttpPublisher(broker_url, "", ttl_s=ttl_s, priority="normal")
    address = StoreAddress(url=store_url, pool="default")
    return RedisPublisher(address, publisher="openclaw", ttl_s=ttl_s, priority="normal")


def get(broker: BrokerProcess, path: str) -> dict:
    return httpx.get(broker.url + path).raise_for_status().json()


def post(broker: BrokerProcess, path: str, body: dict) -> dict:
    return httpx.post(broker.url + path, json=body).raise_for_status().json()


def leases(broker: BrokerProcess) -> list[dict]:
    return get(broker, "/queue")["leases"]


async def settled(broker: BrokerProcess, server: RedisServer) -> list[dict]:
    """The live leases once everything published has been carried out."""
    store = redis.Redis(unix_socket_path=str(server.socket))
    await until(lambda: store.xlen(INGRESS) == 0)
    return leases(broker)


async def test_a_model_is_kept_warm_renewed_and_given_back(scene, publisher):
    server, broker = scene
    assert list(publisher.renew((MAIN,))) == [MAIN]
    [lease] = await settled(broker, server)
    assert (lease["sessionKey"], lease["model"], lease["intent"], lease["state"]) == (
        "agent:main:main",
        "a",
        "warm",
        "active",
    )
    post(broker, "/renew", {**NAMED, "ttlSeconds": 20})  # as if a good part of the TTL were over
    list(publisher.renew((MAIN,)))
    [again] = await settled(broker, server)
    assert (again["leaseId"], again["expiresInSeconds"] > 100) == (lease["leaseId"], True)
    assert list(publisher.release((MAIN,))) == [MAIN]
    assert await settled(broker, server) == []
    assert list(publisher.release((MAIN,))) == [MAIN]  # nothing to give back is no error


async def test_beside_a_plugin_nothing_counts_twice_and_nothing_is_shortened(scene, publisher):
    server, broker = scene
    plugin = post(broker, "/lease", {**NAMED, "ttlSeconds": 1200})  # `/gpu warm a 20m`
    for _ in range(3):
        assert list(publisher.renew((MAIN,))) == [MAIN]
    [lease] = await settled(broker, server)
    assert lease["leaseId"] == plugin["leaseId"]
    assert lease["expiresInSeconds"] > 1100


async def test_the_plugins_own_numbering_is_not_disturbed(scene, publisher):
    server, broker = scene
    store = redis.Redis(unix_socket_path=str(server.socket))
    list(publisher.renew((MAIN,)))
    common = {**NAMED, "publisher": "openclaw"}
    store.xadd(INGRESS, {"type": "activity", "seq": 1, **common})
    list(publisher.renew((MAIN,)))
    [_] = await settled(broker, server)
    if isinstance(publisher, RedisPublisher):
        store.xadd(INGRESS, {"type": "release", "seq": 2, **common})
        assert await settled(broker, server) == []


async def test_a_model_nobody_knows_harms_no_other(scene, publisher):
    server, broker = scene
    strange = Warm(session="agent:main:main", model="nobody-knows")
    assert list(publisher.renew((strange, MAIN))) == [strange, MAIN]
    assert [lease["model"] for lease in await settled(broker, server)] == ["a"]


async def test_a_poller_on_a_recorded_gateway(scene, publisher, agent_database, tmp_path: Path):
    server, broker = scene
    agent_database("turns")
    watch = SessionWatch(settings=ActivitySettings(active_s=1e9, silent_run_s=1e9), models=MODELS)
    poller = Poller(SqliteSource(tmp_path, limit=100), publisher, watch, clock=time.monotonic)
    assert poller.tick().trouble is TickFailure.NONE
    found = {lease["sessionKey"].removeprefix("agent:main:"): lease["model"] for lease in await settled(broker, server)}
    child = next(name for name in found if name.startswith("subagent:36408a26"))
    people = {"main": "a", "fresh": "a", "parent": "a", "parent2": "a", "long": "a", "longrun": "a", "two": "b"}
    assert found == people | {child: "b"}
    again = poller.tick()
    assert (again.plan.renew, again.plan.kept) == ((), 8)


@pytest.mark.parametrize("way", ["redis", "http"])
def test_a_receiver_that_is_away_is_a_passing_trouble(way: str, agent_database, tmp_path: Path):
    agent_database("turns")
    publisher = publisher_of(way, f"unix://{tmp_path}/none", "http://127.0.0.1:9")
    watch = SessionWatch(settings=ActivitySettings(active_s=1e9, silent_run_s=1e9), models=MODELS)
    with contextlib.closing(Poller(SqliteSource(tmp_path, limit=9), publisher, watch, clock=time.monotonic)) as poller:
        first, second = poller.tick(), poller.tick()
    assert first.trouble is second.trouble is TickFailure.PUBLISH
    assert second.plan.renew == first.plan.renew != ()


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "hotseat.cli", "poller", *arguments]


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("HOTSEAT_")}


def test_the_command_runs_until_it_is_told_to_stop(scene, agent_database, tmp_path: Path):
    server, _broker = scene
    path = agent_database("turns")
    config = tmp_path / "hotseat.toml"
    config.write_text(
        f'[store]\nurl = "{server.url}"\n\n[poller]\nstate_dir = "{tmp_path}"\npublish = "redis"\nperiod_s = 1\n'
        'active_s = 86400\nproviders = []\nlog_format = "json"\n[poller.models]\n"fake/beta" = "b"\n'
    )
    process = subprocess.Popen(command("--config", str(config)), stderr=subprocess.PIPE, text=True, env=environment())
    try:
        events = (json.loads(line) for line in process.stderr)
        assert next(events)["event"] == "poller_started"
        path.rename(path.with_name("away"))  # the gateway's folder is moved under its feet, then comes back
        assert next(event for event in events if event["event"] == "source_unreadable")
        path.with_name("away").rename(path)
        assert next(event for event in events if event["event"] == "recovered")["from"] == "source_unreadable"
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        assert [event["event"] for event in events][-1] == "poller_stopped"
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


SIGNAL_AT_EACH_LINE = """
import signal, sys
from types import SimpleNamespace
from hooks.openclaw.poller import cli

def run(wait):
    def traced(_frame, event, _argument):
        global left
        left -= event == "line"
        if event == "line" and left == 0:
            signal.raise_signal(signal.SIGTERM)
        return traced
    sys.settrace(traced)
    ended = wait()
    sys.settrace(None)
    if left > 0:
        signal.raise_signal(signal.SIGTERM)
    while not ended:
        ended = wait()

line, left = 0, 0
while left <= 0:  # until a wait has fewer lines
    line += 1
    left = line
    cli._run(SimpleNamespace(run=run), SimpleNamespace(source="auto", publish="http", period_s=0.01))
    print(line, flush=True)
"""


def test_a_signal_at_any_line_of_the_wait_ends_it():
    """``Event.set`` in the handler would wait for ever for a lock that the interrupted ``Event.wait`` holds."""
    with subprocess.Popen([sys.executable, "-c", SIGNAL_AT_EACH_LINE], stdout=subprocess.PIPE, text=True) as process:
        hung = threading.Timer(60, process.kill)
        hung.start()
        lines = process.stdout.read().split()
        hung.cancel()
    assert process.returncode == 0
    assert len(lines) > 5


@pytest.mark.parametrize(
    "arguments, status, says",
    [
        (("--source", "telepathy"), 2, "--source: must be one of auto, "),
        (("--source", "gateway-api"), 2, "gateway_token_file"),
        (("--config", "/nowhere.toml"), 2, "/nowhere.toml"),
        (("--state-dir", "/nowhere"), 4, "no sessions under /nowhere"),
        (("--broker-url", "http://127.0.0.1:9", "--default-model", "hotseat/a"), 3, "no answer from the broker"),
    ],
)
def test_exit_statuses(agent_database, tmp_path: Path, capsys, own_log, arguments, status: int, says: str):
    agent_database("turns")
    config = tmp_path / "hotseat.toml"
    config.write_text(f'[poller]\nstate_dir = "{tmp_path}"\nactive_s = 86400\nsilent_run_s = 86400\n')
    with age_to_now(tmp_path):
        assert main(["--once", *(() if "--config" in arguments else ("--config", str(config))), *arguments]) == status
    assert says in "".join(capsys.readouterr())


def test_once_says_which_models_the_broker_refuses(agent_database, tmp_path: Path, scene, capsys, own_log):
    agent_database("turns")
    config = tmp_path / "hotseat.toml"
    poller = (
        f'[poller]\nstate_dir = "{tmp_path}"\nactive_s = 86400\nsilent_run_s = 86400\nbroker_url = "{scene[1].url}"\n'
    )
    config.write_text(poller + '[poller.models]\n"fake/alpha" = "nope"\n"fake/beta" = "nope"\n')
    with age_to_now(tmp_path):
        assert main(["--once", "--config", str(config)]) == TickFailure.PUBLISH.value
    assert "refused by the broker: nope: no model nope" in capsys.readouterr().out


@pytest.fixture
def own_log() -> Iterator[None]:
    """The command sets up the process's log; afterwards it is pytest's again."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers = []
    yield
    root.handlers, root.level = handlers, level


@contextlib.contextmanager
def age_to_now(tmp_path: Path) -> Iterator[None]:
    """Move a recording's stamps to now."""
    link = sqlite3.connect(tmp_path / "agents/main/agent/openclaw-agent.sqlite")
    link.execute("UPDATE session_nodes SET last_interaction_at = ?", (int(time.time() * 1000),))
    link.commit()
    yield
    link.close()


def test_a_schema_from_the_future_ends_a_single_look_with_a_status_of_its_own(agent_database, tmp_path: Path):
    link = sqlite3.connect(agent_database("turns"))
    link.execute("PRAGMA user_version = 24")
    argv = command("--once", "--json", "--state-dir", str(tmp_path))
    done = subprocess.run(argv, capture_output=True, text=True, env=environment(), timeout=30, check=False)
    link.close()
    assert done.returncode == 5
    assert json.loads(done.stdout)["trouble"] == "unsupported"
