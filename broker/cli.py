"""``hotseat broker``, ``check``, ``key`` and ``export-schemas``."""

import argparse
import asyncio
import logging
import os
import re
import signal
import socket
import sys
from pathlib import Path
from urllib.parse import quote

import uvloop

from broker.access.keys import new_key
from broker.app import build_app, openapi_document, server_of
from broker.config.broker_config import BrokerConfig, load_config
from broker.core.errors import HotseatError
from broker.http_server import descriptors
from broker.http_server.listening import CannotListenError, DrainingServer, address, inherited, try_to_listen
from broker.process import allocator, collector, logs
from broker.store.port import Store
from schemas import export, hangup
from schemas.command_line import CommandLine, add_config, one_of
from schemas.config.file import ConfigError
from schemas.names import NAME_PATTERN, WORDS

_log = logging.getLogger(__name__)
SCOPES = ("lease", "observe", "operate", "admin")
EXIT_LISTEN = 1
EXIT_CONFIG = 2
EXIT_STORE = 3


def broker(argv: list[str]) -> int:
    """Run the broker until a signal.

    Returns:
        0 stopped, 1 it could not listen, 2 the configuration is wrong, 3 a newer version of Hotseat has taken over the
        store.
    """
    parser = CommandLine(prog="hotseat broker", description="Run the broker: HTTP API, policy, scheduler.")
    add_config(parser)
    arguments = parser.parse_args(argv)
    hangup.ignore_while_starting()
    allocator.settle()
    try:
        config = load_config(arguments.config, os.environ)
        store = open_store(config)
        sockets = inherited(os.environ, config.broker.host, config.broker.port)
        if not sockets:
            try_to_listen(config.broker.host, config.broker.port)
    except ConfigError as error:
        print(f"hotseat broker: {error}", file=sys.stderr)
        return EXIT_CONFIG
    except CannotListenError as error:
        print(f"hotseat broker: {error}", file=sys.stderr)
        return EXIT_LISTEN
    for warning in config.warnings():
        print(f"hotseat broker: warning: {warning}", file=sys.stderr)
    logs.set_up(config.broker.log_format, config.broker.log_level)
    _note_descriptors(config)
    for each in sockets:
        _log.info("socket_taken_over", extra={"address": address(each)})
    return uvloop.run(_serve(config, store, sockets))


main = broker


def _note_descriptors(config: BrokerConfig) -> None:
    """Say so when fewer connections can be open than are configured."""
    descriptors.raise_limit()
    most, wanted = descriptors.ceiling(), config.broker.max_connections
    if most < wanted:
        _log.warning("connections_limited", extra={"by": "ulimit -n", "most": most, "max_connections": wanted})


async def _serve(config: BrokerConfig, store: Store, sockets: list[socket.socket]) -> int:
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, hangup.say_ignored, _log)
    app = build_app(config, store)
    server = server_of(config, app)
    superseded: asyncio.Event = app.state.broker.watch.superseded
    watching = asyncio.create_task(_stop_when(superseded, server), name="superseded")
    collector.settle()
    connections = server.server_state.connections
    collecting = asyncio.create_task(collector.forever(lambda: len(connections)), name="collector")
    trimming = asyncio.create_task(allocator.forever(app.state.broker.services.gateway.context.room), name="trimming")
    await server.serve(sockets or None)
    trimming.cancel()
    collecting.cancel()
    watching.cancel()
    if superseded.is_set():
        return EXIT_STORE
    return 0 if server.started else 1


async def _stop_when(superseded: asyncio.Event, server: DrainingServer) -> None:
    await superseded.wait()
    server.should_exit = True


def open_store(config: BrokerConfig) -> Store:
    """The Redis store of the configuration; connects at the first call."""
    from broker.store.redis.store import RedisStore  # noqa: PLC0415  export-schemas and key need no Redis client

    section = config.store
    password = section.read_password()
    if password is None:
        return RedisStore.connect(section.url, pool=section.pool)
    scheme, _, rest = section.url.partition("://")
    credentials = f"{quote(section.username or '', safe='')}:{quote(password, safe='')}"
    return RedisStore.connect(f"{scheme}://{credentials}@{rest}", pool=section.pool)


def check(argv: list[str]) -> int:
    """Check a live store's invariants, changing nothing.

    Returns:
        0 none broken, 1 some are, 2 the configuration is wrong, 3 the store does not answer.
    """
    parser = CommandLine(prog="hotseat check", description="Check a live store's invariants, read-only.")
    add_config(parser)
    arguments = parser.parse_args(argv)
    try:
        config = load_config(arguments.config, os.environ)
        return asyncio.run(_check(config))
    except ConfigError as error:
        print(f"hotseat check: {error}", file=sys.stderr)
        return EXIT_CONFIG
    except HotseatError as error:
        print(f"hotseat check: {error.code}: {error}", file=sys.stderr)
        return EXIT_STORE


async def _check(config: BrokerConfig) -> int:
    store = open_store(config)
    try:
        advice = await store.advice()
        violations = await store.check()
    finally:
        await store.close()
    for warning in advice:
        print(f"warning: {warning}", file=sys.stderr)
    for violation in violations:
        print(f"{violation.invariant}: {violation.subject}: {violation.detail}")
    print(f"{len(violations)} invariants broken" if violations else "all invariants hold")
    return 1 if violations else 0


def _name(text: str) -> str:
    if not re.fullmatch(NAME_PATTERN, text):
        raise argparse.ArgumentTypeError(WORDS[NAME_PATTERN])
    return text


def key(argv: list[str]) -> int:
    """Make an API key: printed once, its hash goes into the configuration."""
    parser = CommandLine(prog="hotseat key", description="Make an API key.")
    commands = parser.add_subparsers(dest="command", required=True)
    new = commands.add_parser("new", help="print a key once, and the table to put into hotseat.toml")
    new.add_argument("name", type=_name, help="whose key it is: the name in the audit log")
    new.add_argument(
        "--scope", action="append", type=one_of(SCOPES), help="lease, observe, operate or admin; repeatable (lease)"
    )
    arguments = parser.parse_args(argv)
    secret, digest = new_key()
    scopes = ", ".join(f'"{scope}"' for scope in arguments.scope or ["lease"])
    print(f"# The key, shown only now: {secret}", file=sys.stderr)
    print(f'[[key]]\nname = "{arguments.name}"\nsha256 = "{digest}"\nscopes = [{scopes}]')
    return 0


def export_schemas(argv: list[str]) -> int:
    """Write JSON Schema of the messages and the OpenAPI document into ``schemas/json``.

    Returns:
        0 written or in step, 1 with ``--check`` when a file differs.
    """
    parser = CommandLine(prog="hotseat export-schemas", description="Write JSON Schema and OpenAPI files.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a file is out of step")
    parser.add_argument("--directory", type=Path, default=export.DIRECTORY, help="where to (default: schemas/json)")
    arguments = parser.parse_args(argv)
    documents = {**export.messages(), "openapi.json": openapi_document()}
    if not arguments.check:
        export.write(documents, arguments.directory)
        return 0
    stale = export.stale(documents, arguments.directory)
    for name in stale:
        print(f"{name} is out of step with the code; run hotseat export-schemas", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
