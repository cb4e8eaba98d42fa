"""``hotseat check`` on live stores: sound, damaged, empty and away."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from harness.broker_process import MODELS, BrokerProcess
from harness.redis_servers import VALKEY, RedisServer

pytestmark = pytest.mark.redis


@pytest.fixture
def server() -> Iterator[RedisServer]:
    one = RedisServer(VALKEY).start()
    try:
        yield one
    finally:
        one.close()


def check(url: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the command as a person would."""
    config = folder / "hotseat.toml"
    config.write_text(f'[store]\nurl = "{url}"\n\n[broker]\nanonymous = true\n{MODELS}')
    environ = {name: value for name, value in os.environ.items() if not name.startswith("HOTSEAT_")}
    argv = [sys.executable, "-m", "hotseat.cli", "check", "--config", str(config)]
    return subprocess.run(argv, capture_output=True, text=True, env=environ, timeout=30, check=False)


def test_a_sound_pool_passes_and_a_damaged_one_is_named(server: RedisServer, tmp_path: Path):
    broker = BrokerProcess(server.url).until_ready()
    try:
        sound = check(server.url, tmp_path)
        assert (sound.returncode, sound.stdout) == (0, "all invariants hold\n"), sound.stderr
        redis.Redis(unix_socket_path=str(server.socket)).hset("hotseat:{default}:model:a", "queued", 7)
        damaged = check(server.url, tmp_path)
        assert damaged.returncode == 1
        assert "queued_is_the_sum: a: 0 is not 7" in damaged.stdout
        assert damaged.stdout.splitlines()[-1].endswith("invariants broken")
    finally:
        broker.stop()


def test_a_store_that_no_broker_ever_used_is_not_called_sound(server: RedisServer, tmp_path: Path):
    done = check(server.url, tmp_path)
    assert done.returncode == 3
    assert "not initialised" in done.stderr


def test_a_store_that_is_away_is_said_to_be(tmp_path: Path):
    done = check(f"unix://{tmp_path}/none", tmp_path)
    assert done.returncode == 3
    assert "cannot reach the store" in done.stderr
