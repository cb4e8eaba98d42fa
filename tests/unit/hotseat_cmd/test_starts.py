"""What stops a start is one message that says what to do, before anything was begun."""

import errno
import socket

import pytest

from broker.cli import broker, check
from broker.http_server.listening import CannotListenError, try_to_listen
from gpu_worker.cli import main as worker
from hooks.openclaw.poller.cli import main as poller
from hotseat.commands.ps import ps

FILE = """
[store]
url = "redis://127.0.0.1:9/0"
[broker]
port = 0
[worker]
state_dir = "{folder}/state"
[[worker.slot]]
id = "gpu0"
budget_mib = 100
[[key]]
name = "k"
sha256 = "{zeros}"
[[model]]
name = "a"
memory_mib = 100
command = ["true", "{{port}}", "{{api_key_file}}"]
"""


PLACES = ((socket.AF_INET6, "::1"), (socket.AF_INET, "127.0.0.1"))


@pytest.fixture
def config(tmp_path):
    """Write the file with a few changes; answers its path."""

    def write(*changes):
        text = FILE.format(folder=tmp_path, zeros="0" * 64)
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        path = tmp_path / "hotseat.toml"
        path.write_text(text)
        return str(path)

    return write


def ends(part, argv, capsys):
    status = part(argv)
    shown = capsys.readouterr()
    assert shown.out == ""
    (line,) = shown.err.splitlines()
    return status, line


@pytest.mark.parametrize("part", [broker, worker, check])
@pytest.mark.parametrize("content", [None, b"", b"\n", b"\xff\xfe"])
def test_a_password_that_cannot_be_read_is_a_message(part, content, config, tmp_path, capsys):
    password = tmp_path / "password"
    if content is not None:
        password.write_bytes(content)
    path = config(("[store]", f'[store]\npassword_file = "{password}"'))
    status, line = ends(part, ["--config", path], capsys)
    assert status == 2
    assert f": [store]: password_file: {password}" in line


def test_a_pollers_secrets_are_asked_for_in_the_same_way(config, tmp_path, capsys):
    path = config(("[store]", f'[poller]\napi_key_file = "{tmp_path}/key"\n[store]'))
    status, line = ends(poller, ["--config", path, "--once"], capsys)
    assert (status, line) == (
        2,
        f"hotseat poller: [poller]: api_key_file: {tmp_path}/key cannot be read: No such file or directory",
    )


def test_a_state_dir_that_cannot_be_written_is_a_message(config, tmp_path, capsys):
    path = config(("/state", "/hotseat.toml/state"))
    status, line = ends(worker, ["--config", path], capsys)
    assert status == 2
    assert line.endswith(f"[worker]: state_dir: {tmp_path}/hotseat.toml/state cannot be written: Not a directory")


@pytest.mark.parametrize("host", ["[::1]", "no host", "a..b"])
def test_a_host_that_cannot_be_resolved_stops_a_start(host, config, capsys):
    status, line = ends(broker, ["--config", config(("port = 0", f'host = "{host}"'))], capsys)
    assert status == 2
    assert f"[broker]: host: {host!r} cannot be resolved" in line
    status, line = ends(worker, ["--config", config(("[worker]", f'[worker]\nbind_host = "{host}"'))], capsys)
    assert status == 2
    assert f"[worker]: bind_host: {host!r} cannot be resolved" in line


def test_an_address_that_is_not_ours_stops_a_start_before_the_pool_is_touched(config, capsys):
    path = config(("port = 0", 'host = "192.0.2.1"\nport = 4687'))
    assert ends(broker, ["--config", path], capsys) == (
        1,
        "hotseat broker: cannot listen on 192.0.2.1:4687: Cannot assign requested address",
    )


class WithoutIpv6(socket.socket):
    """As on a kernel that was started with ``ipv6.disable=1``; ``/etc/hosts`` has ``::1`` all the same."""

    def __init__(self, family=socket.AF_INET, *more):
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        super().__init__(family, *more)


def test_a_family_that_the_kernel_does_not_have_is_nowhere_to_listen_and_stops_no_start(monkeypatch):
    monkeypatch.setattr(socket, "socket", WithoutIpv6)
    found = [(family, socket.SOCK_STREAM, 0, "", (host, 0)) for family, host in PLACES]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    try_to_listen("localhost", 0)
    del found[1:]
    with pytest.raises(CannotListenError, match=r"cannot listen on localhost: Address family not supported"):
        try_to_listen("localhost", 0)


@pytest.fixture
def mcp():
    """Its module imports an SDK, which takes a second and keeps the ``sys.stderr`` it finds: ask before ``capsys``."""
    from hotseat.mcp.server import main  # noqa: PLC0415

    return main


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:port", "http://127.0.0.1:99999", "http://[::1", "ftp://x", "nonsense"]
)
def test_a_brokers_address_that_is_none_is_a_message(url, mcp, monkeypatch, capsys):
    monkeypatch.setenv("HOTSEAT_URL", url)
    for part, name in ((ps, "hotseat"), (mcp, "hotseat mcp")):
        status, line = ends(part, [], capsys)
        assert status != 0
        assert line.startswith(f"{name}: the broker's address ")
        assert "set HOTSEAT_URL or --url" in line
