"""The embedded store: durable, private, and never left behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import redis

from hotseat.up.embedded_valkey import EmbeddedValkey, StoreStartError, socket_path, start_valkey

pytestmark = pytest.mark.redis


@contextmanager
def running(folder: Path, *, port: int = 0) -> Iterator[EmbeddedValkey]:
    valkey = start_valkey(folder, port=port)
    try:
        yield valkey
    finally:
        valkey.stop()


@contextmanager
def client_of(valkey: EmbeddedValkey) -> Iterator[redis.Redis]:
    with closing(redis.Redis.from_url(valkey.url, decode_responses=True)) as client:
        yield client


def wait_until_gone(pid: int, *, timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while Path(f"/proc/{pid}").exists() and "State:\tZ" not in Path(f"/proc/{pid}/status").read_text():
        assert time.monotonic() < deadline, f"process {pid} is still there"
        time.sleep(0.02)


def test_settings_are_the_ones_leases_need(tmp_path: Path) -> None:
    with running(tmp_path) as valkey, client_of(valkey) as client:
        wanted = {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction", "port": "0"}
        assert {name: client.config_get(name)[name] for name in wanted} == wanted


def test_socket_is_for_this_user_only(tmp_path: Path) -> None:
    with running(tmp_path) as valkey:
        assert valkey.socket_path.stat().st_mode & 0o077 == 0


def test_data_and_functions_survive_kill_9(tmp_path: Path) -> None:
    with running(tmp_path) as valkey:
        with client_of(valkey) as client:
            client.set("lease", "L1")
            client.function_load("#!lua name=probe\nredis.register_function('probe', function() return 1 end)")
        os.kill(valkey.child.process.pid, signal.SIGKILL)
        valkey.child.process.wait()
    with running(tmp_path) as valkey, client_of(valkey) as client:
        assert client.get("lease") == "L1"
        assert client.fcall("probe", 0) == 1


def test_stop_leaves_no_process_and_no_socket(tmp_path: Path) -> None:
    with running(tmp_path) as valkey:
        pid = valkey.child.process.pid
    assert not valkey.socket_path.exists()
    assert not Path(f"/proc/{pid}").exists()


def test_it_dies_with_a_launcher_killed_by_9(tmp_path: Path) -> None:
    launcher_code = (
        "import sys, time; from pathlib import Path; from hotseat.up.embedded_valkey import start_valkey; "
        "print(start_valkey(Path(sys.argv[1])).child.process.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", launcher_code, str(tmp_path)], stdout=subprocess.PIPE) as launcher:
        assert launcher.stdout is not None
        pid = int(launcher.stdout.readline())
        launcher.kill()
    wait_until_gone(pid)


def test_folder_with_a_space_and_a_quote_works(tmp_path: Path) -> None:
    with running(tmp_path / 'state "one" here') as valkey, client_of(valkey) as client:
        assert client.ping()


def test_long_folder_gets_a_short_private_socket(tmp_path: Path) -> None:
    with running(tmp_path / ("long" * 30)) as valkey, client_of(valkey) as client:
        assert len(str(valkey.socket_path)) < 100
        assert client.ping()


def test_two_folders_never_share_a_socket(tmp_path: Path) -> None:
    assert socket_path(tmp_path / ("a" * 120)) != socket_path(tmp_path / ("b" * 120))


def test_a_store_that_cannot_start_says_why(tmp_path: Path) -> None:
    (tmp_path / "appendonlydir").write_text("not a folder")
    with pytest.raises(StoreStartError, match="appendonlydir"):
        start_valkey(tmp_path)
