"""Who listens on a port, told by the kernel: real sockets of this process and of others."""

import os
import socket
import subprocess
import sys

import pytest

from gpu_worker.host.listeners import Listener, Ownership, StrangerError, listeners
from tests.integration.worker.conftest import eventually

LISTEN = """
import socket, sys, time
s = socket.socket({family})
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, {reuse})
s.bind(({host!r}, {port})); s.listen(); print(s.getsockname()[1], flush=True); time.sleep(60)
"""


@pytest.fixture
def another():
    """Another process that listens."""
    children = []

    def listen(host="127.0.0.1", port=0, family="socket.AF_INET", reuse=0):
        program = LISTEN.format(host=host, port=port, family=family, reuse=reuse)
        child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
        children.append(child)
        return child, int(child.stdout.readline())

    yield listen
    for child in children:
        child.kill()
        child.communicate()


@pytest.fixture
def mine():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def owned(port, *pids, host="127.0.0.1"):
    return Ownership(host, port, lambda: set(pids))


def test_our_own_socket_is_ours_and_nobodys_is_nobodys(mine):
    assert owned(mine, os.getpid()).is_there()
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    assert not owned(port, os.getpid()).is_there()


def test_somebody_elses_socket_is_a_strangers_and_named(another):
    child, port = another()
    with pytest.raises(StrangerError, match=rf"port {port} is answered by python[\w.]* \(pid {child.pid}\)"):
        owned(port, os.getpid()).is_there()
    assert owned(port, child.pid).is_there()


def test_a_stranger_that_shares_our_port_is_seen_though_ours_listens_too(another):
    child, port = another(reuse=1)
    ours, _ = another(port=port, reuse=1)
    with pytest.raises(StrangerError):
        owned(port, ours.pid).is_there()
    assert owned(port, ours.pid, child.pid).is_there()


def test_a_proof_does_not_outlive_its_socket(another):
    child, port = another()
    ownership = owned(port, child.pid)
    assert ownership.is_there()
    child.kill()
    child.wait()
    eventually(lambda: not listeners(port), what="the port being free")
    assert not ownership.is_there()
    another(port=port)
    with pytest.raises(StrangerError):
        ownership.is_there()


def test_an_exact_address_goes_before_a_wildcard(another):
    child, port = another(reuse=1)
    wild, _ = another(host="0.0.0.0", port=port, reuse=1)
    assert owned(port, child.pid).is_there()
    with pytest.raises(StrangerError):
        owned(port, child.pid, host="127.0.0.2").is_there()
    assert owned(port, wild.pid, host="127.0.0.2").is_there()


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6")
def test_ipv6_and_names_are_looked_at_too(another):
    try:
        child, port = another(host="::1", family="socket.AF_INET6")
    except ValueError:
        pytest.skip("no IPv6 loopback here")
    assert owned(port, child.pid, host="::1").is_there()
    assert owned(port, child.pid, host="localhost").is_there()
    with pytest.raises(StrangerError):
        owned(port, os.getpid(), host="localhost").is_there()


@pytest.mark.parametrize(
    "family, later", [((), True), ((os.getpid(),), False)], ids=["it is dead", "its socket is gone"]
)
def test_a_server_that_ends_while_we_look_is_no_stranger(monkeypatch, family, later):
    """Its socket was in the kernel's table a moment ago, and nobody holds it."""
    looks = [[Listener("127.0.0.1", "4294967294")], [Listener("127.0.0.1", "4294967294")] if later else []]
    monkeypatch.setattr("gpu_worker.host.listeners.listeners", lambda _: looks.pop(0))
    assert not owned(4687, *family).is_there()


def test_a_socket_of_somebody_who_cannot_be_seen_is_a_strangers(monkeypatch):
    monkeypatch.setattr("gpu_worker.host.listeners.listeners", lambda _: [Listener("127.0.0.1", "4294967294")])
    with pytest.raises(StrangerError, match="another process"):
        owned(4687, os.getpid()).is_there()
