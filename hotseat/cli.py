"""The command line: names every subcommand and loads only the one that was asked for.

A subcommand lives with the part it belongs to and is a function `(argv: list[str]) -> int`, the exit status. It parses
its own arguments, so `hotseat --help` imports nothing but this file and answers in a few milliseconds.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, NamedTuple, cast

if TYPE_CHECKING:
    from collections.abc import Callable

    Command = Callable[[list[str]], int]

USAGE_ERROR = 2
INTERRUPTED = 130


class Subcommand(NamedTuple):
    """Where a subcommand is implemented (`module:function`) and what it is for.

    A named tuple and not a dataclass: that import alone would double the time `hotseat --help` takes.
    """

    target: str
    summary: str


SUBCOMMANDS: dict[str, Subcommand] = {
    "up": Subcommand(
        target="hotseat.up.command:main", summary="start everything on this machine and show agents taking turns"
    ),
    "broker": Subcommand(target="broker.cli:broker", summary="run the broker: HTTP API, policy, scheduler"),
    "worker": Subcommand(target="gpu_worker.cli:main", summary="run the worker of one GPU host"),
    "poller": Subcommand(
        target="hooks.openclaw.poller.cli:main", summary="keep models of OpenClaw's conversations warm"
    ),
    "ps": Subcommand(target="hotseat.commands.ps:ps", summary="who holds what, who waits for what"),
    "why": Subcommand(target="hotseat.commands.ps:why", summary="why does this lease wait, and for how long at most"),
    "model": Subcommand(
        target="hotseat.commands.operate:model",
        summary="the models; take one out of service (off) and put it back (on)",
    ),
    "load": Subcommand(target="hotseat.commands.operate:load", summary="load a model now"),
    "unload": Subcommand(target="hotseat.commands.operate:unload", summary="unload a model that nobody uses"),
    "cordon": Subcommand(target="hotseat.commands.operate:cordon", summary="no new leases on a slot"),
    "drain": Subcommand(
        target="hotseat.commands.operate:drain", summary="no new leases on a slot, and give up its models as leases end"
    ),
    "uncordon": Subcommand(target="hotseat.commands.operate:uncordon", summary="let a slot grant leases again"),
    "heal": Subcommand(
        target="hotseat.commands.operate:heal", summary="forget failures: what failed is tried again at once"
    ),
    "route": Subcommand(target="hotseat.commands.route:route", summary="where recorded requests would go, and why"),
    "report": Subcommand(
        target="hotseat.commands.report:report", summary="what /v1 served on one day, and how long it took"
    ),
    "check": Subcommand(target="broker.cli:check", summary="check a live store's invariants, read-only"),
    "lease": Subcommand(target="hotseat.commands.lease:lease", summary="ask for a lease and wait for it"),
    "release": Subcommand(target="hotseat.commands.lease:release", summary="give a lease back"),
    "run": Subcommand(target="hotseat.commands.run:run", summary="run a command under a lease"),
    "mcp": Subcommand(target="hotseat.mcp.server:main", summary="serve the GPU to MCP clients"),
    "key": Subcommand(target="broker.cli:key", summary="make an API key"),
    "import": Subcommand(
        target="hotseat.commands.import_:main", summary="turn llama-swap's or LiteLLM's configuration into ours"
    ),
    "export": Subcommand(
        target="hotseat.commands.export_:main", summary="print the provider block for LiteLLM or OpenClaw"
    ),
    "export-schemas": Subcommand(target="broker.cli:export_schemas", summary="write JSON Schema and OpenAPI files"),
}


def main(argv: list[str] | None = None) -> int:
    """Run one subcommand.

    Args:
        argv: Arguments after the program's name; the process's own when None.

    Returns:
        The exit status: the subcommand's, 2 for an unknown one, 130 after Ctrl-C; a process's also those of ``output``.
    """
    if argv is None:
        from hotseat.terminal.output import run_as_process  # noqa: PLC0415 - who calls a function keeps its streams

        return run_as_process(lambda: _run(sys.argv[1:]))
    return _run(argv)


def _run(arguments: list[str]) -> int:
    name, rest = (arguments[0], arguments[1:]) if arguments else ("--help", [])
    if name in {"-h", "--help", "help"}:
        print(usage())
        return 0
    if name in {"-V", "--version"}:
        print(version_line())
        return 0
    if name not in SUBCOMMANDS:
        from schemas.command_line import meant  # noqa: PLC0415 - only who mistypes pays for it

        print(f"hotseat: no such command: {name}{meant(name, SUBCOMMANDS)}\n\n{usage()}", file=sys.stderr)
        return USAGE_ERROR
    try:
        return load(SUBCOMMANDS[name])(rest)
    except KeyboardInterrupt:
        return INTERRUPTED


def usage() -> str:
    """Return the help text: every subcommand with its summary."""
    width = max(len(name) for name in SUBCOMMANDS)
    lines = [f"  {name:<{width}}  {subcommand.summary}" for name, subcommand in SUBCOMMANDS.items()]
    return "\n".join(
        [
            "usage: hotseat <command> [arguments]",
            "",
            "Agents wait in line for a model instead of failing.",
            "",
            *lines,
            "",
            "`hotseat <command> --help` explains one command.",
        ]
    )


def version_line() -> str:
    """Return `hotseat <version>`."""
    from hotseat import __version__  # noqa: PLC0415 - keeps this file's imports to the bone

    return f"hotseat {__version__}"


def load(subcommand: Subcommand) -> Command:
    """Import a subcommand's implementation.

    Raises:
        ImportError: The part it lives in is not installed.
    """
    module, _, function = subcommand.target.partition(":")
    return cast("Command", getattr(importlib.import_module(module), function))


if __name__ == "__main__":
    sys.exit(main())
