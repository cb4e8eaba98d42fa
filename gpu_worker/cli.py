"""``hotseat worker``: run the daemon on a GPU host."""

import argparse
import asyncio
import os
import sys
from dataclasses import replace

from gpu_worker import app, logs
from gpu_worker.config import OnExit, WorkerConfig, load_config
from gpu_worker.slot.lock import SlotTakenError
from schemas import hangup
from schemas.command_line import CommandLine, add_config
from schemas.config.file import ConfigError

EXIT_CONFIG = 2
EXIT_SLOT_TAKEN = 4


def main(argv: list[str] | None = None) -> int:
    """Run the worker until a signal.

    Returns:
        0 stopped, 2 the configuration is wrong, 3 superseded by a later worker, 4 the slot is served already,
        here or on another host.
    """
    arguments = _parser().parse_args(argv)
    hangup.ignore_while_starting()
    try:
        config = load_config(arguments.config, os.environ)
        config = _with_flags(config, arguments)
        for warning in config.warnings():
            print(f"hotseat worker: warning: {warning}", file=sys.stderr)
        logs.set_up(config.worker.log_format, config.worker.log_level)
        return asyncio.run(app.run(config))
    except ConfigError as error:
        print(f"hotseat worker: {error}", file=sys.stderr)
        return EXIT_CONFIG
    except SlotTakenError as error:
        print(f"hotseat worker: {error}", file=sys.stderr)
        return EXIT_SLOT_TAKEN


def _with_flags(config: WorkerConfig, arguments: argparse.Namespace) -> WorkerConfig:
    if arguments.on_exit is None:
        return config
    return replace(config, worker=config.worker.model_copy(update={"on_exit": arguments.on_exit}))


def _parser() -> argparse.ArgumentParser:
    parser = CommandLine(
        prog="hotseat worker",
        description="Load and unload models on this host's GPU as the brokers want them.",
        epilog="When asked to end (SIGTERM, Ctrl-C), model servers run on for adopt_grace_s unless --stop-servers.",
    )
    add_config(parser)
    exits = parser.add_mutually_exclusive_group()
    exits.add_argument(
        "--stop-servers", dest="on_exit", action="store_const", const=OnExit.STOP, help="end model servers on exit"
    )
    exits.add_argument(
        "--leave-servers", dest="on_exit", action="store_const", const=OnExit.LEAVE, help="leave them to be adopted"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
