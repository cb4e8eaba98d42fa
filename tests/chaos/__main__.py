"""``python -m tests.chaos --faults 200 --seed 7``: one chaos run, a line per fault, a table at the end."""

import argparse
import asyncio
import random
import signal
import sys
from functools import partial

from tests.chaos.run import Outcome, Plan, run
from tests.chaos.summary import table

say = partial(print, flush=True)


def main() -> int:
    """Run; 0 when no invariant was broken, 1 otherwise."""
    arguments = _parser().parse_args()
    seed = arguments.seed if arguments.seed is not None else random.SystemRandom().randrange(1_000_000)
    say(f"chaos: seed {seed}, {arguments.faults} faults")
    plan = Plan(
        seed=seed,
        faults=arguments.faults,
        longest_pause_s=arguments.longest_pause_s,
        real_servers=arguments.real_servers,
        say=say,
    )
    return report(asyncio.run(_interruptible(plan)))


async def _interruptible(plan: Plan) -> Outcome:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await run(plan)


def report(outcome: Outcome) -> int:
    """Print the table; keep the traces of a run that failed."""
    say(table(outcome))
    if not outcome.violations:
        return 0
    for violation in outcome.violations:
        say(f"VIOLATION {violation}")
    say(f"seed {outcome.seed}; traces and logs: {outcome.folder}")
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--faults", type=int, default=200)
    parser.add_argument("--seed", type=int, help="the same seed draws the same faults")
    parser.add_argument("--longest-pause-s", type=float, default=12.0)
    parser.add_argument("--real-servers", action="store_true", help="real llama-servers beside the fake one")
    return parser


if __name__ == "__main__":
    sys.exit(main())
