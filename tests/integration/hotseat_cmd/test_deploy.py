"""What stands in `deploy/` is true: units name real commands, the ACL file loads and lets each part do its own."""

import hashlib
import re
import shutil
import socket
import subprocess
import textwrap
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import pytest
import redis
import yaml

from broker.config.broker_config import BrokerSection
from broker.config.broker_config import load_config as load_broker
from broker.core.lease import ModelName
from broker.store.days import Batch
from broker.store.port import ModelSettings, PoolSettings
from broker.store.redis.store import RedisStore
from gpu_worker.config import load_config as load_worker
from harness.redis_servers import REDIS, VALKEY, binary_of
from hooks.openclaw.poller.activity import Warm
from hooks.openclaw.poller.config import load_config as load_poller
from hooks.openclaw.poller.publishing.port import RefusedError
from hooks.openclaw.poller.publishing.redis_stream import RedisPublisher, StoreAddress
from hotseat.cli import SUBCOMMANDS
from hotseat.up.child import Child
from schemas.config.file import ConfigError

DEPLOY = Path(__file__).parents[3] / "deploy"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
SOCKET = DEPLOY / "systemd" / "hotseat-broker.socket"
POLLER_PAGES = [DEPLOY.parent / "docs" / page for page in ("openclaw.md", "openclaw/reference.md")]
POLLER_BLOCKS = [
    block
    for page in POLLER_PAGES
    for block in re.findall(r"```toml\n(.*?)```", page.read_text(), re.DOTALL)
    if "[poller]" in block
]
COMMAND = re.compile(r"^ExecStart=/opt/hotseat/bin/hotseat (\w+) --config /etc/hotseat/hotseat.toml$", re.MULTILINE)


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_unit_starts_a_command_that_exists(unit: Path) -> None:
    command = COMMAND.search(unit.read_text())
    assert command is not None
    assert command[1] in SUBCOMMANDS


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
@pytest.mark.parametrize("unit", [*UNITS, SOCKET], ids=lambda unit: unit.name)
def test_systemd_accepts_the_unit(unit: Path, tmp_path: Path) -> None:
    for each in {unit, unit.with_suffix(".service")}:
        (tmp_path / each.name).write_text(each.read_text().replace("/opt/hotseat/bin/hotseat", "/bin/true"))
    argv = ["systemd-analyze", "verify", str(tmp_path / unit.name)]
    checked = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")


def test_the_socket_is_the_one_that_a_broker_opens_by_itself() -> None:
    section = BrokerSection()
    assert f"\nListenStream={section.host}:{section.port}\n" in SOCKET.read_text()
    assert f"\nBacklog={section.backlog}\n" in SOCKET.read_text()


@pytest.fixture(params=[VALKEY, REDIS])
def guarded_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Address of a server whose users are those of `deploy/redis-acl`, each with its own name as the password."""
    users = [
        line.replace("SECRET", hashlib.sha256(line.split()[1].encode()).hexdigest())
        for line in (DEPLOY / "redis-acl").read_text().splitlines()
        if line.startswith("user ")
    ]
    (tmp_path / "users.acl").write_text("\n".join(users) + "\n")
    address = tmp_path / "s"
    program = binary_of(request.param)
    if program is None:
        pytest.skip(f"no {request.param}-server on this machine (Debian: apt install redis-server)")
    argv = [program, "--port", "0", "--unixsocket", str(address), "--dir", str(tmp_path)]
    child = Child.start([*argv, "--aclfile", str(tmp_path / "users.acl")], name="valkey", log=tmp_path / "log")
    wait_for(address, child)
    yield str(address)
    child.stop(timeout_s=5)


def wait_for(address: Path, child: Child) -> None:
    while child.is_running():
        with socket.socket(socket.AF_UNIX) as ours, suppress(OSError):  # it is there before it listens
            ours.connect(str(address))
            break
        time.sleep(0.01)
    assert child.is_running(), child.log_tail()


def connected(address: str, user: str) -> "closing[redis.Redis]":
    return closing(redis.Redis(unix_socket_path=address, username=user, password=user, driver_info=None, protocol=2))


@pytest.mark.redis
def test_nobody_gets_in_without_a_password(guarded_store: str) -> None:
    with closing(redis.Redis(unix_socket_path=guarded_store)) as client, pytest.raises(redis.AuthenticationError):
        client.ping()


@pytest.mark.redis
def test_worker_writes_its_own_report_and_nothing_else(guarded_store: str) -> None:
    with connected(guarded_store, "hotseat-worker-gpu0") as client:
        with client.pipeline(transaction=True) as pipe:
            pipe.delete("hotseat:{default}:report:gpu0")
            pipe.hset("hotseat:{default}:report:gpu0", mapping={"beat": 1})
            pipe.xadd("hotseat:{default}:bell", {"slot": "gpu0"}, maxlen=1000, approximate=True)
            pipe.execute()
        assert client.hgetall("hotseat:{default}:orders:gpu0") == {}
        assert client.xread({"hotseat:{default}:ring:gpu0": "0"}, count=1) == []
        for forbidden in (
            lambda: client.hset("hotseat:{default}:report:gpu1", mapping={"beat": 1}),
            lambda: client.delete("hotseat:{default}:bell"),
            lambda: client.hset("hotseat:{default}:bell", mapping={"beat": 1}),
            lambda: client.xread({"hotseat:{default}:bell": "0"}, count=1),
            lambda: client.xadd("hotseat:{default}:report:gpu0", {"beat": 1}),
            lambda: client.hgetall("hotseat:{default}:orders:gpu1"),
            lambda: client.hset("hotseat:{default}:orders:gpu0", mapping={"gen": 1}),
            lambda: client.hgetall("hotseat:{default}:meta"),
            lambda: client.fcall("hotseat1_release", 1, "hotseat:{default}"),
            client.flushall,
        ):
            with pytest.raises(redis.exceptions.NoPermissionError):
                forbidden()


@pytest.mark.redis
async def test_broker_counts_a_day_and_a_hook_does_not(guarded_store: str) -> None:
    with connected(guarded_store, "hotseat-broker") as client:
        client.ping()  # tries again where the socket is there and nobody listens yet
    store = RedisStore.connect(f"unix://hotseat-broker:hotseat-broker@{guarded_store}")
    await store.init(PoolSettings(models=(ModelSettings(name=ModelName("a"), memory_mib=1),)))
    batch = Batch(day="2026-11-21", source="one", number=1, counts={"retries|a": 2})
    await store.days.add(batch, kept_s=60.0)
    assert await store.days.read("2026-11-21") == batch.counts
    await store.close()
    with connected(guarded_store, "hotseat-hook") as client, pytest.raises(redis.exceptions.NoPermissionError):
        client.fcall("hotseat1_add_day", 1, "hotseat:{default}", "2026-11-21", "me", "1", "1000", "retries|a", "1")


@pytest.mark.redis
def test_hook_publishes_and_cannot_read(guarded_store: str) -> None:
    with connected(guarded_store, "hotseat-hook") as client:
        client.xadd("hotseat:{default}:ingress", {"type": "lease"})
        with pytest.raises(redis.exceptions.NoPermissionError):
            client.xrange("hotseat:{default}:ingress")


@pytest.mark.redis
def test_poller_appends_to_the_ingress_stream_and_does_nothing_else(guarded_store: str) -> None:
    address = StoreAddress(
        url=f"unix://{guarded_store}", pool="default", username="hotseat-poller", password="hotseat-poller"
    )
    publisher = RedisPublisher(address, publisher="openclaw", ttl_s=120, priority="normal")
    warm = Warm(session="agent:main:main", model="alpha")
    assert list(publisher.renew((warm,))) == list(publisher.release((warm,))) == [warm]
    publisher.close()
    other = RedisPublisher(replace(address, pool="other"), publisher="openclaw", ttl_s=120, priority="normal")
    with pytest.raises(RefusedError, match=r"(?i)no permissions"):
        list(other.renew((warm,)))
    other.close()
    with connected(guarded_store, "hotseat-poller") as client:
        for forbidden in (
            lambda: client.xrange("hotseat:{default}:ingress"),
            lambda: client.xlen("hotseat:{default}:ingress"),
            lambda: client.xtrim("hotseat:{default}:ingress", maxlen=0),
            lambda: client.delete("hotseat:{default}:ingress"),
            lambda: client.xadd("hotseat:{default}:bell", {"slot": "gpu0"}),
            lambda: client.hset("hotseat:{default}:orders:gpu0", mapping={"gen": 1}),
            lambda: client.fcall("hotseat1_release", 1, "hotseat:{default}"),
            lambda: client.eval("return 1", 0),
            client.client_list,
            client.flushall,
        ):
            with pytest.raises(redis.exceptions.NoPermissionError):
                forbidden()


@pytest.mark.redis
def test_who_looks_changes_nothing(guarded_store: str) -> None:
    with connected(guarded_store, "hotseat-look") as client:
        assert client.hgetall("hotseat:{default}:meta") == {}
        with pytest.raises(redis.exceptions.NoPermissionError):
            client.hset("hotseat:{default}:meta", mapping={"inc": "x"})


def test_broker_may_run_every_command_of_the_function_library() -> None:
    library = "".join(part.read_text() for part in (DEPLOY.parent / "broker" / "store").rglob("*.lua"))
    called = {name.lower() for name in re.findall(r"redis\.p?call\(\s*['\"](\w+)['\"]", library)}
    line = next(line for line in (DEPLOY / "redis-acl").read_text().splitlines() if line.startswith("user hotseat-br"))
    allowed = {word[1:].split("|")[0] for word in line.split() if word.startswith("+")}
    assert called <= allowed


def compose_services() -> dict[str, dict]:
    return yaml.safe_load((DEPLOY.parent / "compose.yaml").read_text())["services"]


@pytest.mark.parametrize("service", ["broker", "worker"])
def test_compose_runs_a_command_that_exists_and_builds_its_own_image(service: str) -> None:
    entry = compose_services()[service]
    assert entry["command"][0] in SUBCOMMANDS
    dockerfile = (DEPLOY.parent / entry["build"]["dockerfile"]).read_text()
    assert f"AS {entry['build']['target']}\n" in dockerfile


def test_compose_configuration_is_accepted_by_both_parts(tmp_path: Path) -> None:
    file = tmp_path / "hotseat.toml"
    key = f'\n[[key]]\nname = "me"\nsha256 = "{"0" * 64}"\n'
    file.write_text((DEPLOY / "compose" / "hotseat.toml").read_text() + key)
    services = compose_services()
    broker = load_broker(file, services["broker"]["environment"])
    worker = load_worker(file, services["worker"]["environment"])
    assert broker.store == worker.store
    assert broker.broker.host == "0.0.0.0"
    assert (worker.worker.bind_host, worker.worker.advertise_host) == ("0.0.0.0", "worker")


def test_compose_broker_without_a_key_says_how_to_make_one() -> None:
    with pytest.raises(ConfigError, match="hotseat key new"):
        load_broker(DEPLOY / "compose" / "hotseat.toml", {"HOTSEAT_BROKER_HOST": "0.0.0.0"})


def test_example_configuration_is_accepted_by_the_worker() -> None:
    assert load_worker(DEPLOY / "hotseat.toml.example", {}).models


@pytest.mark.parametrize("block", POLLER_BLOCKS)
def test_configuration_of_the_openclaw_page_is_accepted_by_the_poller(block: str, tmp_path: Path) -> None:
    (tmp_path / "hotseat.toml").write_text(textwrap.dedent(block))
    assert load_poller(tmp_path / "hotseat.toml", {}, {}).poller.default_model == "hotseat/gemma-27b"


@pytest.mark.skipif(shutil.which("docker") is None, reason="needs docker")
def test_docker_accepts_the_compose_file() -> None:
    if subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode != 0:
        pytest.skip("this docker has no compose")
    checked = subprocess.run(
        ["docker", "compose", "--file", str(DEPLOY.parent / "compose.yaml"), "config", "--quiet"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr
