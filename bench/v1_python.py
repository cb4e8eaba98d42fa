"""The broker's own code on one stream of ``/v1``, alone: ``python -m bench.v1_python``.

One process, no traffic, no system calls but the log's and the look whether a client has gone: the bytes of a client, of
a model server (all ten events in one piece) and of a store that grants everything are handed to the broker's own
protocols as the event loop would. What is left is Python, on the event loop that the broker runs on. The best of many
short rounds, so that a busy machine shows as little as it can; ``--profile`` prints where the calls are.
"""

import argparse
import asyncio
import cProfile
import json
import pstats
import socket
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, cast
from unittest import mock

import uvloop
from uvicorn.server import ServerState

from bench.gateway import SESSIONS, request
from bench.parts.gateway_backend import FAST, HEAD, done, event
from bench.parts.gateway_targets import BROKER, MODELS
from broker.app import build_app, server_of
from broker.config.broker_config import load_config
from broker.http_client.connection import Connection
from broker.http_client.connection_pool import ConnectionPool
from broker.process import collector, logs
from broker.store.redis import link as redis_link
from broker.store.redis.store import RedisStore

ANSWER = HEAD + b"".join(event() for _ in range(FAST)) + done()
GRANT = json.dumps(
    {
        "id": "@ID@", "nonce": "@NONCE@", "state": "active", "sh": 20 * "s", "hh": 20 * "h", "model": "wide",
        "intent": "use", "priority": "normal", "who": "bench", "ttl_ms": "60000", "arrival": "12345", "session": "s1",
        "enq": "1763755000000", "granted": "1763755000000", "now": "1763755000001", "deadline": "1763755060000",
        "residency": "ready", "holder": "v1:b:0123456789abcdef:0", "slot": "gpu0", "gen": "5", "progress": "0",
        "url": "http://127.0.0.1:1/v1", "key": 32 * "k", "claimed": "1", "single": "1",
    }
).encode()  # fmt: skip


class Transport:
    """Goes nowhere."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()

    def is_closing(self) -> bool:
        """Never."""
        return False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Addresses of both ends."""
        return ("127.0.0.1", 1) if name in {"peername", "sockname"} else default

    def __getattr__(self, name: str) -> Any:
        return lambda *_args, **_named: None


class Store(Transport):
    """Grants what is asked for and takes everything back."""

    def __init__(self, wire: Any) -> None:
        super().__init__()
        self._wire = wire

    def write(self, data: bytes) -> None:
        """Answer each command in its turn."""
        words, at, out = data.split(b"\r\n"), 0, b""
        while at < len(words) - 1:
            count = int(words[at][1:])
            said = words[at + 2 : at + 1 + 2 * count : 2]
            if said[1] == b"hotseat1_acquire":
                lease_id, nonce = said[4:6]
                body = GRANT.replace(b"@ID@", lease_id).replace(b"@NONCE@", nonce)
                out += b"$%d\r\n%b\r\n" % (len(body), body)
            else:
                out += b"$-1\r\n"
            at += 1 + 2 * count
        self._loop.call_soon(self._wire.data_received, out)


class Model(Transport):
    """Answers whatever it is sent."""

    def __init__(self, connection: Connection) -> None:
        super().__init__()
        self._connection = connection

    def writelines(self, parts: Any) -> None:
        """Answer."""
        del parts
        self._loop.call_soon(self._connection.data_received, ANSWER)


class Client(Transport):
    """Knows when an answer is whole."""

    def __init__(self) -> None:
        super().__init__()
        self._socket, self._other_end = socket.socketpair()
        self.whole: asyncio.Future[None] = self._loop.create_future()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """A socket that is open, as the broker looks whether its client has gone."""
        return self._socket if name == "socket" else super().get_extra_info(name, default)

    def write(self, data: bytes) -> None:
        """Take it."""
        if data.startswith(b"HTTP/1.1") and not data.startswith(b"HTTP/1.1 200"):
            self.whole.set_exception(RuntimeError(f"the broker answered {data.decode(errors='replace')}"))
        elif data.endswith(b"0\r\n\r\n"):
            self.whole.set_result(None)


async def connected(connections: ConnectionPool, address: Any) -> Connection:
    """In place of a connection to a model server."""
    idle: list[Connection] = connections._idle.setdefault(address, [])  # noqa: SLF001
    connection = Connection(idle_s=60.0, on_idle=idle.append)
    connection.connection_made(Model(connection))  # type: ignore[arg-type]
    return connection


def protocol_of(client: Client) -> Any:
    """A client's connection to a broker whose store is ``Store``."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "hotseat.toml"
        path.write_text(f'[store]\nurl = "unix:///none"\n[broker]\nport = 0\nanonymous = true\n{BROKER}\n{MODELS}')
        config = load_config(path, {})
    logs.set_up(config.broker.log_format, config.broker.log_level)
    link = redis_link.RedisLink("unix:///none")
    wire = link._wire = redis_link._Wire(60.0, decoded=False)  # noqa: SLF001
    wire.connection_made(Store(wire))  # type: ignore[arg-type]
    store = RedisStore(pool="default", link=link, blocking=redis_link.BlockingLinks(lambda: link))
    server = server_of(config, build_app(config, store))
    server.config.load()
    protocol = server.config.http_protocol_class(server.config, ServerState(), {})  # type: ignore[call-arg]
    protocol.connection_made(cast("asyncio.Transport", client))
    return protocol


async def measure(flags: argparse.Namespace) -> None:
    """Print the time of one stream."""
    client = Client()
    protocol = protocol_of(client)
    requests = [request(f"s{number}", "wide", "fast") for number in range(SESSIONS)]

    async def run(count: int) -> None:
        for number in range(count):
            client.whole = asyncio.get_running_loop().create_future()
            protocol.data_received(requests[number % SESSIONS])
            await client.whole
            await asyncio.sleep(0)  # the lease is given back

    with mock.patch.object(ConnectionPool, "_connected", connected):
        await run(SESSIONS)
        collector.settle()
        took_us = []
        for _ in range(flags.rounds):
            began_s = time.perf_counter()
            await run(20)
            took_us.append(1e6 * (time.perf_counter() - began_s) / 20)
        print(f"one stream: best {min(took_us):.0f} us, median {statistics.median(took_us):.0f}")
        if flags.profile:
            profile = cProfile.Profile()
            profile.enable()
            await run(SESSIONS)
            profile.disable()
            stats = pstats.Stats(profile)
            print(f"{stats.total_calls / SESSIONS:.0f} calls per stream")  # type: ignore[attr-defined]
            stats.sort_stats("tottime").print_stats(40)


def main() -> None:
    """From the command line; the log lines are made, and written to nowhere."""
    reader = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    reader.add_argument("--rounds", type=int, default=300)
    reader.add_argument("--profile", action="store_true")
    flags = reader.parse_args()
    with Path("/dev/null").open("w") as nowhere, mock.patch.object(sys, "stderr", nowhere):
        uvloop.run(measure(flags))


if __name__ == "__main__":
    main()
