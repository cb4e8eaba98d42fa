"""What the OpenClaw plugin adds to a turn: from a message at the gateway to its request at the model server.

Two real gateways of the pinned version, one with the plugin and one without, beside one broker and one model server
whose model is loaded; they take turns, so that whatever else the machine does meets both. ``python -m bench.openclaw``
prints the table; the target is a median of at most 5 ms.
"""

import argparse
import asyncio
import contextlib
import json
import random
import statistics
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

from tests.openclaw.gateway import Gateway, Operator
from tests.openclaw.gateway_config import Setup, config_of
from tests.openclaw.install import OPENCLAW, installed
from tests.openclaw.scene import Scene, free_port, openclaw_scene

TARGET_MS = 5.0
PER_SESSION = 10
"""Turns, so that no history grows long."""
WARM_UP = 5
RESAMPLES = 2000


async def measure(turns: int) -> dict[str, list[float]]:
    """Milliseconds of each turn, by gateway."""
    seen: dict[str, list[float]] = {"with plugin": [], "without": []}
    async with openclaw_scene(installed()) as scene, _without_plugin(scene) as plain:
        sides = {"with plugin": scene.chat, "without": plain}
        for number in range(-WARM_UP, turns):
            session = f"agent:main:b{number // PER_SESSION}"
            order = list(sides)
            random.shuffle(order)
            for side in order:
                took_ms = await _turn(scene, sides[side], session)
                if number >= 0:
                    seen[side].append(took_ms)
    return seen


@contextlib.asynccontextmanager
async def _without_plugin(scene: Scene) -> AsyncIterator[Operator]:
    folder = scene.folder / "without"
    folder.mkdir()
    gateway = Gateway(scene.where, folder, free_port())
    config = config_of(folder, gateway.port, scene.broker.url, Setup())
    (folder / "openclaw.json").write_text(json.dumps(config))
    try:
        await gateway.start()
        operator = await Operator.on(gateway.port)
        yield operator
        await operator.close()
    finally:
        gateway.stop()


async def _turn(scene: Scene, chat: Operator, session: str) -> float:
    before, started_s = len(scene.models.calls), time.monotonic()
    run = await chat.say(session, "hello")
    end = await chat.ended(run)
    assert end["state"] == "final", end
    called_s, _model = scene.models.calls[before]
    return (called_s - started_s) * 1000


def interval(first: list[float], second: list[float]) -> tuple[float, float]:
    """Of the difference of two medians: 95 %, from turns drawn anew."""
    drawn = sorted(
        statistics.median(random.choices(first, k=len(first)))
        - statistics.median(random.choices(second, k=len(second)))
        for _ in range(RESAMPLES)
    )
    return drawn[round(0.025 * RESAMPLES)], drawn[round(0.975 * RESAMPLES)]


def main() -> int:
    """Measure and print.

    Returns:
        1 when the median is beyond the target.
    """
    parser = argparse.ArgumentParser(prog="python -m bench.openclaw")
    parser.add_argument("--turns", type=int, default=100, help="at each gateway (default: %(default)s)")
    parser.add_argument("--samples", type=Path, help="write every turn's milliseconds into this file, as JSON")
    arguments = parser.parse_args()
    seen = asyncio.run(measure(arguments.turns))
    if arguments.samples:
        arguments.samples.write_text(json.dumps(seen))
    lines = [f"OpenClaw {OPENCLAW}: message to request at the model server, ms, {arguments.turns} turns each"]
    for side, values in seen.items():
        cuts = statistics.quantiles(values, n=20)
        lines.append(f"  {side:<12} p50 {statistics.median(values):7.1f}  p90 {cuts[17]:7.1f}  p95 {cuts[18]:7.1f}")
    first, second = seen.values()
    added_ms = statistics.median(first) - statistics.median(second)
    low, high = interval(first, second)
    lines.append(f"  added        p50 {added_ms:7.1f}  (95 % interval {low:.1f} to {high:.1f}; target {TARGET_MS:g})")
    sys.stdout.write("\n".join(lines) + "\n")
    return int(added_ms > TARGET_MS)


if __name__ == "__main__":
    sys.exit(main())
