"""``make data-path``: the data path at full length, with a summary. Takes seven minutes.

1. A model that loads for 90 s, a client for each profile; no parser goes 10 s without an event.
2. Eight clients with the official SDKs over two real models that do not fit together, for five minutes.
"""

import argparse
import asyncio
import statistics
import sys
import threading
import time

from harness.stack import real_stack
from tests.data_path.clients import Tally, talk
from tests.data_path.waits import measure

CLIENTS = 8
SETTINGS = "[limits]\nload_backoff_s = 1.0\n"


def say(line: str) -> None:
    """Print, at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def waits(load_s: float) -> int:
    """The first part; says how many failed."""
    say(f"1. a model that loads for {load_s:.0f} s; an event at least every 10 s")
    seen = asyncio.run(measure(load_s, 10.0, {}, bears_s=load_s / 3))
    for waited in seen:
        say(waited.line())
    return sum(bool(waited.failure) for waited in seen)


def clients(seconds: float) -> int:
    """The second part; says how many failures there were."""
    say(f"2. {CLIENTS} clients over two models that do not fit together, {seconds:.0f} s")
    tally = Tally()
    with real_stack(SETTINGS) as stack:
        until_s = time.monotonic() + seconds
        threads = [threading.Thread(target=talk, args=(stack, n, until_s, tally)) for n in range(CLIENTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        loads = stack.broker.log.read_text().count("kind=Load")
        away = stack.broker.log.read_text().count("outcome=queued")
    waits_s = sorted(tally.waits_s)
    say(f"  answers: {sum(tally.served.values())} ({dict(tally.served)}), all equal to the first of their kind")
    say(f"  failures: {len(tally.failures)} {tally.failures[:5]}")
    say(f"  loads: {loads}; 429 with the place kept: {away}")
    say(f"  seconds per answer: median {statistics.median(waits_s):.2f}, worst {waits_s[-1]:.1f}")
    return len(tally.failures)


def main() -> int:
    """Run both.

    Returns:
        1 when anything failed.
    """
    reader = argparse.ArgumentParser(prog="make data-path")
    reader.add_argument("--load-s", type=float, default=90.0)
    reader.add_argument("--seconds", type=float, default=300.0)
    flags = reader.parse_args()
    failed = waits(flags.load_s) + clients(flags.seconds)
    say("failed" if failed else "all is well")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
