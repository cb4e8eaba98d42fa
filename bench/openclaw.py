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
from dataclasses import dataclass
from pathlib import Path

from harness.openclaw.gateway import Gateway, Operator
from harness.openclaw.gateway_config import SCRIPTED, Setup, config_of, free_port
from harness.openclaw.install import OPENCLAW, installed
from harness.openclaw.scene import KEY, Scene, openclaw_scene

TARGET_MS = 5.0
AGENT = "real"
"""The one without tools: composing their descriptions takes most of a turn and varies by more than what is measured."""
PER_SESSION = 10
"""Turns, so that no history grows long."""
WARM_UP = 5
SETTLE_S = 0.2
"""What a turn leaves behind is not the next one's."""
RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two gateways."""

    gateway: Gateway
    chat: Operator


@dataclass(frozen=True, slots=True)
class Turn:
    """From the message to the request, milliseconds."""

    wall: float
    processor: float
    """Of the gateway's main thread: what other processes do on the machine hardly shows."""


async def measure(turns: int) -> dict[str, list[Turn]]:
    """Each turn, by gateway."""
    seen: dict[str, list[Turn]] = {"with plugin": [], "without": []}
    async with openclaw_scene(installed()) as scene, _without_plugin(scene) as plain:
        sides = {"with plugin": Side(scene.gateway, scene.chat), "without": plain}
        for number in range(-WARM_UP, turns):
            session = f"agent:{AGENT}:b{number // PER_SESSION}"
            if number == -WARM_UP or number % PER_SESSION == 0:
                await _choose_model(sides, session)
            order = list(sides)
            random.shuffle(order)
            for side in order:
                turn = await _turn(scene, sides[side], session)
                await asyncio.sleep(SETTLE_S)
                if number >= 0:
                    seen[side].append(turn)
    return seen


async def _choose_model(sides: dict[str, Side], session: str) -> None:
    for side in sides.values():
        await side.chat.call("sessions.patch", {"key": session, "model": f"hotseat/{SCRIPTED[0]}"})


@contextlib.asynccontextmanager
async def _without_plugin(scene: Scene) -> AsyncIterator[Side]:
    folder = scene.folder / "without"
    folder.mkdir()
    gateway = Gateway(scene.where, folder, free_port(), {"HOTSEAT_API_KEY": KEY})
    config = config_of(folder, gateway.port, scene.broker.url, "", Setup())
    (folder / "openclaw.json").write_text(json.dumps(config))
    try:
        await gateway.start()
        operator = await Operator.on(gateway.port)
        yield Side(gateway, operator)
        await operator.close()
    finally:
        gateway.stop()


async def _turn(scene: Scene, side: Side, session: str) -> Turn:
    arrived: list[tuple[float, float]] = []
    scene.models.on_call = lambda: arrived.append((time.monotonic(), side.gateway.processor_ms()))
    processor_ms, started_s = side.gateway.processor_ms(), time.monotonic()
    end = await side.chat.ended(await side.chat.say(session, "hello"))
    assert end["state"] == "final", end
    called_s, used_ms = arrived[0]
    return Turn((called_s - started_s) * 1000, used_ms - processor_ms)


def interval(added: list[float]) -> tuple[float, float]:
    """Of the median of what the plugin added, pair by pair: 95 %, from pairs drawn anew."""
    drawn = sorted(statistics.median(random.choices(added, k=len(added))) for _ in range(RESAMPLES))
    return drawn[round(0.025 * RESAMPLES)], drawn[round(0.975 * RESAMPLES)]


def main() -> int:
    """Measure and print.

    Returns:
        1 when the plugin surely adds more than the target, by either clock.
    """
    parser = argparse.ArgumentParser(prog="python -m bench.openclaw")
    parser.add_argument("--turns", type=int, default=100, help="at each gateway (default: %(default)s)")
    parser.add_argument("--samples", type=Path, help="write every turn's milliseconds into this file, as JSON")
    arguments = parser.parse_args()
    seen = asyncio.run(measure(arguments.turns))
    if arguments.samples:
        plain = {side: [[turn.wall, turn.processor] for turn in turns] for side, turns in seen.items()}
        arguments.samples.write_text(json.dumps(plain))
    sys.stdout.write(f"OpenClaw {OPENCLAW}: message to request at the model server, ms, {arguments.turns} turns each\n")
    least_ms = [_table(name, seen) for name in ("wall", "processor")]
    return int(max(least_ms) > TARGET_MS)


def _table(name: str, seen: dict[str, list[Turn]]) -> float:
    """Print one; the least that the plugin adds, as far as so many pairs of turns can tell."""
    values = {side: [getattr(turn, name) for turn in turns] for side, turns in seen.items()}
    for side, each in values.items():
        cuts = statistics.quantiles(each, n=20)
        p50, p90, p95 = statistics.median(each), cuts[17], cuts[18]
        sys.stdout.write(f"  {name:<9} {side:<12} p50 {p50:7.1f}  p90 {p90:7.1f}  p95 {p95:7.1f}\n")
    added = [first - second for first, second in zip(*values.values(), strict=True)]
    low, high = interval(added)
    p50 = statistics.median(added)
    sys.stdout.write(f"  {name:<9} added, pairs p50 {p50:7.1f}  95 % interval {low:.1f} to {high:.1f}\n")
    return low


if __name__ == "__main__":
    sys.exit(main())
