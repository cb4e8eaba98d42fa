"""``make demo-fairness``: one model busy, one waited for, one flooded; through ``/v1``, beside llama-server's router.

Both sides run the same llama-server program with the same model files, one after the other on the same machine, and
hold one model at a time. The clients are the same, too: they know nothing of leases.

1. Switch: two clients stream from A and overlap without a gap; one asks for B. How long until its first token? What
   became of A's streams?
2. Flood: three sessions on one model, one of them with many clients. Jain's index of the tokens each session got.
"""

import argparse
import asyncio
import itertools
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace

from bench.fairness import SHAPE, learned
from bench.parts.llama_router import RouterMissingError, router, server_argv
from bench.parts.v1_client import Streams, V1Client
from harness.history.trace_check import jain_index
from harness.stack import SIZE, Build, Stack, real_stack
from hotseat.demo.tiny_gguf import GgufShape

A, B = "a", "b"
FIRST_TOKEN_S = 1.0
"""From B's load to its first token, two slow cores, the worker's reports included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """How long everything takes; Hotseat's policy is the default one but for ``slice_min_s``."""

    slice_min_s: float = 20.0
    tokens: int = 384
    """Per answer: long enough that a client's own delay is no gap."""
    before_s: float = 8.0
    """A alone, before somebody asks for B."""
    patience_s: float = 60.0
    """B waits no longer than this; then A's clients stop."""
    flood_s: float = 25.0
    clients: Sequence[int] = (2, 2, 12)
    """Of the three sessions; the last one floods."""
    shape: GgufShape = SHAPE


@dataclass(frozen=True, slots=True, kw_only=True)
class Switch:
    """What the first scene showed, seconds."""

    waited_s: float | None
    """From B's request to its first token, A's clients going on; None: not within the patience."""
    after_stop_s: float | None
    """To its first token since A's clients stopped, where they had to."""
    gaps: int
    """Times that no request for A was open, until B's first token."""
    streams: Streams
    """Of A."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flood:
    """What the second scene showed."""

    tokens: Sequence[int]
    """By session."""
    jain: float
    failures: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One system."""

    name: str
    switch: Switch
    flood: Flood
    bound_s: float | None = None
    """What the system states for B's wait: slice, overtime, a lease in flight, B's load; None: it states none."""


@dataclass(slots=True)
class Busy:
    """Two clients in relay: each asks when the other has half of its answer, so that A is never without a request."""

    client: V1Client
    streams: Streams = field(default_factory=Streams)
    stopping: bool = False

    async def run(self) -> None:
        """Until it is to stop; then let the answers end."""
        async with asyncio.TaskGroup() as group:
            for number in itertools.count():
                if self.stopping:
                    break
                half = asyncio.Event()
                group.create_task(self.client.ask(A, f"client-{number % 2}", self.streams, half=half))
                await half.wait()


async def measure_switch(url: str, setting: Setting) -> Switch:
    """The first scene."""
    async with V1Client(url, tokens=setting.tokens) as client:
        for model in (B, A):  # both have been loaded once; A is there
            warm = Streams()
            await client.ask(model, "warm-up", warm)
            if warm.finished != 1:
                raise RuntimeError(f"{url} does not serve {model}: {warm.failures}")
        busy = Busy(client)
        relay = asyncio.create_task(busy.run())
        await asyncio.sleep(setting.before_s)
        third = Streams()
        began_s = client.now_s()
        asked = asyncio.create_task(client.ask(B, "third", third))
        within = await third.first_token(setting.patience_s)
        waited_s, gaps = client.now_s() - began_s, busy.streams.gaps
        stopped_s = client.now_s()
        busy.stopping = True
        await asyncio.gather(asked, relay)
        if third.first_token_s is None:
            raise RuntimeError(f"{url} never served {B}: {third.failures}")
        return Switch(
            waited_s=waited_s if within else None,
            after_stop_s=None if within else third.first_token_s - stopped_s,
            gaps=gaps,
            streams=busy.streams,
        )


async def measure_flood(url: str, setting: Setting) -> Flood:
    """The second scene: every client asks again as soon as it has its answer."""
    async with V1Client(url, tokens=setting.tokens) as client:
        await client.ask(A, "warm-up", Streams())
        sessions = [Streams() for _ in setting.clients]
        until_s = client.now_s() + setting.flood_s

        async def turns(number: int) -> None:
            while client.now_s() < until_s:
                await client.ask(A, f"flood-{number}", sessions[number], until_s=until_s)

        await asyncio.gather(*(turns(n) for n, count in enumerate(setting.clients) for _ in range(count)))
    tokens = [session.tokens for session in sessions]
    failures = [failure for session in sessions for failure in session.failures]
    return Flood(tokens=tokens, jain=jain_index([float(count) for count in tokens]), failures=failures)


async def _scenes(name: str, url: str, setting: Setting) -> Side:
    return Side(name=name, switch=await measure_switch(url, setting), flood=await measure_flood(url, setting))


def measure_ours(setting: Setting, argv: Sequence[str]) -> Side:
    """Hotseat alone.

    Args:
        setting: How long.
        argv: The llama-server program.
    """
    with _stack(setting, argv) as stack:
        return _ours(stack, setting)


def measure(setting: Setting, argv: Sequence[str]) -> tuple[Side, Side]:
    """Both sides, Hotseat first.

    Args:
        setting: How long.
        argv: The llama-server program; it has a router.

    Raises:
        RouterMissingError: It does not come up here.
    """
    with _stack(setting, argv) as stack:
        ours = _ours(stack, setting)
        stack.stop_worker()
        with router(argv, [stack.folder / f"{model}.gguf" for model in (A, B)], flags=SIZE) as url:
            return ours, asyncio.run(_scenes("llama-server router", url, setting))


def _stack(setting: Setting, argv: Sequence[str]) -> AbstractContextManager[Stack]:
    return real_stack(f"[policy]\nslice_min_s = {setting.slice_min_s}\n", Build(argv, setting.shape))


def _ours(stack: Stack, setting: Setting) -> Side:
    side = asyncio.run(_scenes("hotseat", stack.v1, setting))
    known = asyncio.run(learned(stack.store.url, busy=A, wanted=B))
    return replace(side, bound_s=known.bound_s(setting.slice_min_s) + known.load_s + FIRST_TOKEN_S)


def table(sides: Sequence[Side]) -> list[str]:
    """What is printed."""
    rows = [("", *(side.name for side in sides))]
    rows.append(("B's first token after", *(_wait(side.switch) for side in sides)))
    rows.append(("  bound that is stated", *(_seconds(side.bound_s) for side in sides)))
    rows.append(("A's streams finished / cut / failed", *(_streams(side.switch.streams) for side in sides)))
    rows.append(("  moments without a request for A", *(str(side.switch.gaps) for side in sides)))
    rows.append(("flood: tokens by session", *(", ".join(f"{n:,}" for n in side.flood.tokens) for side in sides)))
    rows.append(("  Jain index", *(f"{side.flood.jain:.3f}" for side in sides)))
    rows.append(("  streams that did not finish", *(str(len(side.flood.failures)) for side in sides)))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _wait(switch: Switch) -> str:
    if switch.waited_s is not None:
        return f"{switch.waited_s:.1f} s"
    return f"never while A is busy; {switch.after_stop_s:.1f} s after A's clients stopped"


def _seconds(value_s: float | None) -> str:
    return "none" if value_s is None else f"{value_s:.1f} s"


def _streams(streams: Streams) -> str:
    return f"{streams.finished} / {streams.cut} / {streams.failed}"


def kept(ours: Side, *, least_jain: float = 0.9) -> bool:
    """Did Hotseat keep what it promises? A few seconds of flood are a few streams: their index is rough."""
    switch, streams = ours.switch, ours.switch.streams
    in_time = switch.waited_s is not None and ours.bound_s is not None and switch.waited_s <= ours.bound_s
    return in_time and not streams.failures and not ours.flood.failures and ours.flood.jain >= least_jain


def main() -> int:
    """Measure and print.

    Returns:
        1 when Hotseat breaks a promise, 2 when there is no router to compare with.
    """
    setting = Setting()
    reader = argparse.ArgumentParser(prog="make demo-fairness", description=__doc__)
    reader.add_argument("--llama-server", help="the program that both sides run")
    reader.add_argument("--slice-min-s", type=float, default=setting.slice_min_s)
    reader.add_argument("--patience-s", type=float, default=setting.patience_s)
    reader.add_argument("--flood-s", type=float, default=setting.flood_s)
    reader.add_argument("--tokens", type=int, default=setting.tokens, help="of each answer")
    flags = reader.parse_args()
    setting = Setting(
        slice_min_s=flags.slice_min_s, patience_s=flags.patience_s, flood_s=flags.flood_s, tokens=flags.tokens
    )
    try:
        sides = measure(setting, server_argv(flags.llama_server))
    except RouterMissingError as error:
        print(f"no router to compare with: {error}", file=sys.stderr)
        return 2
    print("\n".join(table(sides)))
    return 0 if kept(sides[0]) else 1


if __name__ == "__main__":
    sys.exit(main())
