"""``make test-openclaw``: a real gateway of OpenClaw with our plugin, and what it does to leases, with a summary.

Each check starts from an idle pool. Times are scaled: warm leases live 12 s, a conversation is in progress for 20 s.
"""

import argparse
import asyncio
import sys
import time
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path

from tests.openclaw import checks
from tests.openclaw.install import installed
from tests.openclaw.package import package
from tests.openclaw.scene import Scene, openclaw_scene

Check = Callable[[Scene], Awaitable[str]]
SHORT: dict[str, Check] = {
    "r real models": checks.real_models,
    "f background": checks.background_loads_nothing,  # while nothing has loaded alpha
    "a 6 sessions": checks.many_conversations,
    "d stop": checks.stop_frees_the_place,
    "e sub-agent": checks.subagent_is_expected,
}
MORE: dict[str, Check] = {
    "m model, new": checks.new_and_model,
    "u /gpu": checks.command,
    "h gateway": checks.gateway_dies,
    "g broker": checks.broker_dies_in_a_turn,
}
FOLDER = Path(__file__).parent


def say(line: str) -> None:
    """Print, at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


async def with_plugin(chosen: dict[str, Check]) -> list[str]:
    """Run checks on one gateway; names of those that failed."""
    failed = []
    started_s = time.monotonic()
    async with openclaw_scene(installed()) as scene:
        say(f"gateway ready after {time.monotonic() - started_s:.0f} s")
        for name, check in chosen.items():
            await scene.idle()
            if not await passes(name, check, scene):
                failed.append(name)
        if failed:
            say(scene.gateway.log.read_text()[-4000:])
    return failed


async def passes(name: str, check: Check, scene: Scene) -> bool:
    """Run one and print what came out."""
    started_s = time.monotonic()
    try:
        said = await check(scene)
    except Exception as error:  # noqa: BLE001  whatever it is, the others still run
        frames = traceback.extract_tb(error.__traceback__)
        where = [
            f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames if FOLDER in Path(frame.filename).parents
        ]
        leases = [f"{lease['sessionKey']} {lease['model']} {lease['intent']}" for lease in await scene.leases()]
        say(f"  FAIL  {name:<12} {where}: {type(error).__name__}: {error}; leases {leases}")
        return False
    say(f"  ok    {name:<12} {said} [{time.monotonic() - started_s:.0f} s]")
    return True


def main() -> int:
    """Run them; 1 when a check failed."""
    every = SHORT | MORE
    parser = argparse.ArgumentParser(prog="make test-openclaw ARGS=…", description=__doc__)
    parser.add_argument("checks", nargs="*", help="only these: p, " + ", ".join(name.split()[0] for name in every))
    parser.add_argument("--short", action="store_true", help="what CI runs")
    arguments = parser.parse_args()
    chosen = {
        name: check
        for name, check in (SHORT if arguments.short else every).items()
        if not arguments.checks or name.split()[0] in arguments.checks
    }
    started_s = time.monotonic()
    say(f"  ok    {'install':<12} {installed().folder} [{time.monotonic() - started_s:.0f} s]")
    if "p" in arguments.checks or not (arguments.checks or arguments.short):
        say(f"  ok    {'package':<12} {package(installed())} [{time.monotonic() - started_s:.0f} s]")
    failed = asyncio.run(with_plugin(chosen)) if chosen else []
    say(f"{len(failed)} failed" if failed else "all passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
