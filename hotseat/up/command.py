"""`hotseat up`: store, broker, worker and three demo agents on one machine, with one command and no installation.

The launcher owns nothing that matters: the store's folder and the worker's marks are all there is to keep, so a second
start goes on where the first one stopped, and Ctrl-C leaves neither a process nor a port.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import os
import signal
import socket
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from hotseat.demo.models import DemoModelsMissingError, cache_folder
from hotseat.llama_server import LlamaServerMissingError
from hotseat.terminal import arguments as words
from hotseat.up.configuration import CONTEXT_TOKENS, LEAST_CONTEXT, MOST_CONTEXT
from hotseat.up.embedded_valkey import StoreStartError
from hotseat.up.parts import PartFailedError
from hotseat.up.run import DEFAULT_PORT, HOST, Options, UpError, UpRun
from schemas.command_line import CommandLine

if TYPE_CHECKING:
    from collections.abc import Iterator

FAILED = 1
MOST_TURNS = 1_000_000
EXPECTED_ERRORS = (DemoModelsMissingError, LlamaServerMissingError, PartFailedError, StoreStartError, UpError)


def main(argv: list[str] | None = None) -> int:
    """Run until a signal, or until the agents have taken their turns.

    Returns:
        0 after an orderly end, 1 when something could not start or stay up.
    """
    arguments = parser().parse_args(argv)
    try:
        with locked(arguments.state_dir):
            run = UpRun(options_of(arguments))
            run.prepare()
            asyncio.run(until_signal(run))
    except EXPECTED_ERRORS as error:
        print(f"hotseat up: {error}", file=sys.stderr)
        return FAILED
    return 0


async def until_signal(run: UpRun) -> None:
    """Run the parts; a signal asks them to end, once: the end has its own time limits. Under `nohup` SIGHUP is none."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def hung_up() -> None:
        leave_terminal()
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        loop.add_signal_handler(signal.SIGHUP, hung_up)
    await run.until(stop)


def leave_terminal() -> None:
    """Send what is still said nowhere: writing to a closed terminal is an error and would cut the end short."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        if stat.S_ISCHR(os.fstat(descriptor).st_mode):  # after its hang-up a terminal does not say that it is one
            os.dup2(nowhere, descriptor)
    os.close(nowhere)


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    reader = CommandLine(
        prog="hotseat up",
        description="Start store, broker, worker and three demo agents on this machine. Ctrl-C stops everything.",
    )
    reader.add_argument("--no-demo", action="store_true", help="no agents: only the parts, for agents of your own")
    reader.add_argument(
        "--turns", type=words.whole(1, MOST_TURNS), metavar="N", help="stop after N turns of each agent"
    )
    reader.add_argument(
        "--think",
        type=words.number_of_seconds,
        default=3.0,
        metavar="S",
        help="seconds between an agent's turns (default %(default)g)",
    )
    reader.add_argument(
        "--port",
        type=words.whole(0, words.HIGHEST_PORT),
        default=DEFAULT_PORT,
        help="of the broker, on loopback (default %(default)s)",
    )
    reader.add_argument(
        "--store-port",
        type=words.whole(0, words.HIGHEST_PORT),
        default=0,
        help="also let the store listen on this loopback port",
    )
    reader.add_argument(
        "--context-tokens",
        type=context_tokens,
        default=CONTEXT_TOKENS,
        metavar="N",
        help="of one request; an OpenClaw agent needs 16384 (default %(default)s)",
    )
    reader.add_argument("--state-dir", type=Path, default=state_folder(), help="default %(default)s")
    reader.add_argument("--models-dir", type=Path, default=cache_folder(), help="default %(default)s")
    return reader


def options_of(arguments: argparse.Namespace) -> Options:
    """Check and complete the command line.

    Raises:
        UpError: The broker's port is taken.
    """
    return Options(
        state_dir=arguments.state_dir.resolve(),
        models_dir=arguments.models_dir.resolve(),
        port=usable_port(arguments.port),
        store_port=arguments.store_port,
        demo=not arguments.no_demo,
        turns=arguments.turns,
        think_s=arguments.think,
        context_tokens=arguments.context_tokens,
    )


def context_tokens(text: str) -> int:
    """Return the tokens, which argparse wants as `ValueError` where they are none."""
    tokens = int(text)
    if not LEAST_CONTEXT <= tokens <= MOST_CONTEXT:
        raise argparse.ArgumentTypeError(f"{text}: the demo's models take {LEAST_CONTEXT} to {MOST_CONTEXT}")
    return tokens


def state_folder() -> Path:
    """Return the user's folder for what must survive a restart."""
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "hotseat"


def usable_port(port: int) -> int:
    """Return the port, or a free one for 0.

    Raises:
        UpError: Somebody listens there already.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise UpError(f"port {port} is taken ({error.strerror}); choose another with --port") from error
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder for this process alone.

    Raises:
        UpError: Another `hotseat up` has it, or it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = (folder / "lock").open("w")
    except OSError as error:
        raise UpError(f"cannot write {folder}: {error.strerror}; choose another with --state-dir") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UpError(f"another `hotseat up` uses {folder}; stop it, or choose another --state-dir") from error
        yield
