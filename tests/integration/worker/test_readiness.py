"""Readiness against a real server process with every fault."""

import asyncio
import os
import socket
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from gpu_worker.drivers.port import Address
from gpu_worker.drivers.process.progress import progress_percent
from gpu_worker.host import procfs
from gpu_worker.host.listeners import Ownership
from gpu_worker.slot.liveness import find_useless, wait_unresponsive
from gpu_worker.slot.probe import ProbeError, ProbeTarget, ask
from gpu_worker.slot.readiness import NotReadyError, wait_ready
from tests.integration.worker.conftest import FAKE


def target_of(port, *, pid, key="sekret", kind="chat"):
    owner = Ownership("127.0.0.1", port, lambda: {pid} | procfs.descendants(pid))
    return ProbeTarget(address=Address.at("127.0.0.1", port), key=key, served_name="a", kind=kind, owner=owner)


@pytest.fixture
def serve(tmp_path):
    servers = []

    def start(*flags, kind="chat"):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        (tmp_path / "key").write_text("sekret\n")
        argv = [sys.executable, "-S", "-E", str(FAKE), "--port", str(port), "--alias", "a"]
        server = subprocess.Popen([*argv, "--api-key-file", str(tmp_path / "key"), *flags])
        servers.append(server)
        return server, target_of(port, kind=kind, pid=server.pid)

    yield start
    for server in servers:
        server.kill()
        server.wait(60)


async def test_ready_is_said_soon_after_it_is_true(serve):
    polls = []
    _, target = serve("--load-delay", "1")
    started_s = time.monotonic()
    await wait_ready(target, timeout_s=20, on_poll=lambda: polls.append(time.monotonic()))
    assert time.monotonic() - started_s >= 1.0
    assert len(polls) > 5, "a busy machine asks less often, but no pause grows"


@pytest.mark.parametrize(
    "flags, reason",
    [
        (["--wrong-name", "b"], "wrong_model: the server offers b"),
        (["--empty"], "no_token"),
        (["--never-ready"], "load_timeout: not ready after 0.5 s"),
        (["--hang-health"], "load_timeout"),
        (["--token-delay", "30"], "load_timeout"),
    ],
)
async def test_what_is_not_ready_says_why(serve, flags, reason):
    _, target = serve(*flags)
    if "load_timeout" not in reason:
        await wait_ready(serve()[1], timeout_s=10, on_poll=lambda: None)
    with pytest.raises(NotReadyError, match=reason):
        await wait_ready(target, timeout_s=0.5 if "timeout" in reason else 10, on_poll=lambda: None)


async def test_a_server_with_another_key_is_not_ours(serve):
    server, target = serve()
    stranger = target_of(target.address.port, pid=server.pid, key="wrong")
    with pytest.raises(NotReadyError, match="key_refused"):
        await wait_ready(stranger, timeout_s=10, on_poll=lambda: None)


async def test_a_hung_server_is_noticed_within_its_bound(serve):
    _, target = serve("--hang-after", "0.5")
    await wait_ready(target, timeout_s=10, on_poll=lambda: None)
    started_s = time.monotonic()
    async with asyncio.timeout(20):
        trouble = await wait_unresponsive(target, interval_s=0.1, timeout_s=0.2, failures=3)
    assert "no answer within 0.2 s" in trouble
    assert time.monotonic() - started_s < 15


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"garbage\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
async def test_nonsense_is_a_failed_probe(answer):
    async def talk(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(ProbeError):
            await ask(target_of(port, pid=os.getpid()), "GET", "/", timeout_s=5)


def test_progress_counts_what_was_read(serve, tmp_path):
    weights = tmp_path / "weights"
    weights.write_bytes(b"w" * 200_000_000)
    server, _ = serve("--load-delay", "2", "--read-model", "--model", str(weights))
    seen = set()
    while len(seen) < 4:
        seen.add(progress_percent(server.pid, weights))
        time.sleep(0.05)
    assert max(seen) <= 99
    assert progress_percent(server.pid, None) == 0
    assert progress_percent(4_000_000, weights) == 0


async def test_a_server_on_a_socket_of_this_host_is_asked_there(tmp_path):
    heard = []

    async def talk(reader, writer):
        heard.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        writer.close()

    path = tmp_path / "server.sock"
    async with await asyncio.start_unix_server(talk, path):
        target = replace(target_of(1, pid=os.getpid()), address=Address(f"unix://{path}"), owner=Always())
        answer = await ask(target, "GET", "/health", timeout_s=5)
    assert (answer.status, answer.json()) == (200, {})
    assert heard[0].startswith(b"GET /health HTTP/1.1\r\nHost: localhost\r\n")


class Always:
    """Whoever listens there is ours."""

    def is_there(self):
        return True


@pytest.mark.parametrize("worked_s, trouble", [(0.0, "no token within 0.3 s"), (None, "")])
async def test_a_silent_server_whose_work_nobody_can_see_is_not_proved_useless(serve, worked_s, trouble):
    _, target = serve("--mute-after", "1")
    await wait_ready(target, timeout_s=10, on_poll=lambda: None)
    found = await find_useless(target, patience_s=0.3, worked_s=lambda: worked_s)
    assert found.startswith(trouble)
    assert bool(found) == bool(trouble)
