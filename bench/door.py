"""The door: what it adds to the first byte, and how much passes through it.

``python -m bench.door`` asks one small server directly and through the door in front of it, in the same run, request by
request in turn. Client, door and server share the cores; only the difference carries over. The target: the first byte
comes at most 0.5 ms later. ``--json FILE`` writes the numbers.
"""

import argparse
import asyncio
import json
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from gpu_worker.drivers.process.door import Inside

KEY = "a-key-of-the-bench-that-is-as-long-as-a-real-one"
TARGET_MS = 0.5
BULK_MIB = 256
_BODY = b'{"model": "a", "prompt": "hello", "stream": true}'
_FIRST = b"data: first\n\n"
_LAST = b"0\r\n\r\n"
_MIB = 1 << 20
_PIECE = b"x" * (256 * 1024)


# ---------------------------------------------------------------------------------------------------------- the server
async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer as a model server does; ``/bulk`` sends much, ``/take`` takes it."""
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0] or b"0")
            for _ in range(length // len(_PIECE)):
                await reader.readexactly(len(_PIECE))
            await reader.readexactly(length % len(_PIECE))
            await _answer(head.split()[1], writer)
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def _answer(path: bytes, writer: asyncio.StreamWriter) -> None:
    if path != b"/bulk":
        chunk = b"%x\r\n%s\r\n" % (len(_FIRST), _FIRST)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk + _LAST)
        return
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (BULK_MIB * _MIB))
    for _ in range(BULK_MIB * _MIB // len(_PIECE)):
        writer.write(_PIECE)
        await writer.drain()


async def _be_server(path: str) -> None:
    server = await asyncio.start_unix_server(_serve, path)
    also = await asyncio.start_server(_serve, "127.0.0.1", 0)
    sys.stdout.write(f"{also.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    async with server, also:
        await asyncio.Event().wait()


# ---------------------------------------------------------------------------------------------------------- the client
def _connect(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _request(path: str, length: int) -> bytes:
    return (
        f"POST {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {KEY}\r\nContent-Length: {length}\r\n\r\n".encode()
    )


def _first_byte_s(connection: socket.socket) -> float:
    began_s = time.perf_counter()
    connection.sendall(_request("/v1/completions", len(_BODY)) + _BODY)
    got = connection.recv(65536)
    first_s = time.perf_counter() - began_s
    while not got.endswith(_LAST):
        got += connection.recv(65536)
    assert got.startswith(b"HTTP/1.1 200"), got
    return first_s


def _fresh_first_byte_s(port: int) -> float:
    began_s = time.perf_counter()
    with _connect(port) as connection:
        connected_s = time.perf_counter() - began_s
        return connected_s + _first_byte_s(connection)


def _down_mib_s(port: int) -> float:
    with _connect(port) as connection:
        began_s = time.perf_counter()
        connection.sendall(_request("/bulk", 0))
        left = BULK_MIB * _MIB
        while left > 0:
            left -= len(connection.recv(_MIB))
        return BULK_MIB / (time.perf_counter() - began_s)


def _up_mib_s(port: int) -> float:
    with _connect(port) as connection:
        began_s = time.perf_counter()
        connection.sendall(_request("/take", BULK_MIB * _MIB))
        for _ in range(BULK_MIB * _MIB // len(_PIECE)):
            connection.sendall(_PIECE)
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        return BULK_MIB / (time.perf_counter() - began_s)


# ------------------------------------------------------------------------------------------------------------- the run
@contextmanager
def _both(*, by_socket: bool) -> Iterator[tuple[int, int]]:
    """Yield the port of a server, and of a door in front of it."""
    with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0), backlog=512) as entrance:
        path = str(Path(folder) / "server.sock")
        server = subprocess.Popen([sys.executable, "-m", "bench.door", "--serve", path], stdout=subprocess.PIPE)
        assert server.stdout is not None
        direct = int(server.stdout.readline())
        inside = Inside(set, socket=path) if by_socket else Inside(set, port=direct)
        order = inside.order(host="127.0.0.1", port=0, key=KEY, env={})
        descriptor = entrance.fileno()
        door = subprocess.Popen(order["argv"], stdin=subprocess.PIPE, pass_fds=(descriptor,), env={})
        assert door.stdin is not None
        door.stdin.write(json.dumps(order["told"] | {"listener": descriptor}).encode())
        door.stdin.close()
        try:
            yield direct, entrance.getsockname()[1]
        finally:
            for process in (door, server):
                process.kill()
                process.wait()
            server.stdout.close()


def _in_turn(rounds: int, direct: Callable[[], float], door: Callable[[], float]) -> tuple[list[float], list[float]]:
    direct(), door()  # the first of each pays for what comes once
    pairs = [(direct(), door()) for _ in range(rounds)]
    return [one for one, _ in pairs], [other for _, other in pairs]


def _quantile(values: list[float], percent: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def measure(rounds: int, *, by_socket: bool) -> dict[str, tuple[float, float]]:
    """Return each quantity, direct and through the door."""
    with _both(by_socket=by_socket) as (server, door):
        with _connect(server) as one, _connect(door) as other:
            kept = _in_turn(rounds, lambda: _first_byte_s(one), lambda: _first_byte_s(other))
        fresh = _in_turn(rounds, lambda: _fresh_first_byte_s(server), lambda: _fresh_first_byte_s(door))
        down = _in_turn(3, lambda: _down_mib_s(server), lambda: _down_mib_s(door))
        up = _in_turn(3, lambda: _up_mib_s(server), lambda: _up_mib_s(door))
    found = {}
    for name, (direct_s, door_s) in (("kept", kept), ("fresh", fresh)):
        for percent in (50, 99):
            found[f"{name}_p{percent}_ms"] = (1000 * _quantile(direct_s, percent), 1000 * _quantile(door_s, percent))
    found["down_mib_s"] = (statistics.median(down[0]), statistics.median(down[1]))
    found["up_mib_s"] = (statistics.median(up[0]), statistics.median(up[1]))
    return found


_WORDS = {
    "kept": "first byte, kept connection",
    "fresh": "first byte, new connection",
    "down": "answer",
    "up": "upload",
}


def _table(found: dict[str, tuple[float, float]]) -> str:
    lines = ["| | direct | through the door | added |", "|---|---|---|---|"]
    for name, (direct, door) in found.items():
        kind, _, what = name.partition("_")
        if what == "mib_s":
            lines.append(f"| {_WORDS[kind]}, MiB/s | {direct:.0f} | {door:.0f} | x {door / direct:.2f} |")
        else:
            quantile = what.partition("_")[0]
            lines.append(f"| {_WORDS[kind]}, {quantile}, ms | {direct:.3f} | {door:.3f} | {door - direct:.3f} |")
    return "\n".join(lines)


def main() -> None:
    """Measure, and print a table for each place where a server may listen."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=3000)
    parser.add_argument("--json", type=Path, metavar="FILE")
    chosen = parser.parse_args()
    if chosen.serve:
        asyncio.run(_be_server(chosen.serve))
        return
    found = {}
    for place in ("socket", "port"):
        found[place] = measure(chosen.rounds, by_socket=place == "socket")
        added_ms = found[place]["kept_p50_ms"][1] - found[place]["kept_p50_ms"][0]
        verdict = "within" if added_ms <= TARGET_MS else "ABOVE"
        told = f"Server at a {place}; added to the median first byte: {added_ms:.3f} ms, {verdict} {TARGET_MS} ms"
        sys.stdout.write(f"{told}\n\n{_table(found[place])}\n\n")
    if chosen.json:
        chosen.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
