"""What looking through requests for private content costs, and how long it keeps everybody else waiting.

`make bench BENCH=look_through` prints, by body size: the whole look (reading, patterns, secret scanner), and the
longest time for which the event loop did not run meanwhile, with the look on the loop itself and in the thread.
"""

import argparse
import asyncio
import json
import random
import statistics
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from broker.gateway.requests.inspection import THREAD_BYTES, InspectionThreads
from broker.process.secret_scanner import open_scanner
from broker.routing.privacy.firewall import Firewall, PrivacyCause
from broker.routing.request.contents import UnreadContent
from broker.routing.request.request import Content, ContentSource, Described, RequestKind
from broker.routing.text.work import Work

ROOT = Path(__file__).parents[1]
SIZES = (1_000, 10_000, 100_000, 1_000_000, 4_000_000)
MESSAGE = 4000
"""Characters of one message of a conversation."""
TICK_S = 0.0005


def body_of(size: int, text: str, rng: random.Random) -> bytes:
    """A conversation of about so many bytes, each message some lines of the text."""
    lines = text.splitlines(keepends=True)
    messages, left = [], size
    while left > 0:
        at, said = rng.randrange(len(lines)), ""
        while len(said) < min(left, MESSAGE):
            said += lines[at % len(lines)]
            at += 1
        messages.append({"role": "user", "content": said})
        left -= len(said)
    return json.dumps({"model": "auto", "messages": messages}).encode()


def harmless(text: str, firewall: Firewall) -> str:
    """The lines that may leave: a text with one that may not is not looked through to its end."""
    lines = text.splitlines()
    return "\n".join(line for line in lines if _because(firewall, Content(texts=(line,)), Work()) is None)


def _because(firewall: Firewall, content: ContentSource, work: Work) -> PrivacyCause | None:
    request = Described(name="auto", kind=RequestKind.CHAT, content=content, work=work)
    return firewall.because(request, session_private=False, name_private=False)


def look(firewall: Firewall, body: bytes, work: Work) -> None:
    """As for one request."""
    because = _because(firewall, UnreadContent(RequestKind.CHAT, body, work), work)
    assert because is None, because


async def longest_stall_s(work: Callable[[], Awaitable[None]]) -> float:
    """For how long nothing else ran, at most, while ``work`` was under way."""
    gaps: list[float] = []
    done = False

    async def watch() -> None:
        last = time.perf_counter()
        while not done:
            await asyncio.sleep(TICK_S)
            now = time.perf_counter()
            gaps.append(now - last - TICK_S)
            last = now

    watching = asyncio.create_task(watch())
    await asyncio.sleep(10 * TICK_S)
    gaps.clear()
    await work()
    await asyncio.sleep(2 * TICK_S)
    done = True
    await watching
    return max(gaps)


async def measure(size: int, text: str, firewall: Firewall, rounds: int) -> tuple[float, float, float]:
    """Medians, seconds: the look, the longest stall on the loop, the longest stall with the thread."""
    looking, rng = InspectionThreads(firewall.look_through_bytes), random.Random(size)
    took, on_loop, in_thread = [], [], []
    for _ in range(rounds):
        body = body_of(size, text, rng)

        async def directly(body: bytes = body) -> None:
            began = time.perf_counter()
            look(firewall, body, Work())
            took.append(time.perf_counter() - began)

        async def apart(body: bytes = body) -> None:
            work = looking.work(len(body))
            await looking.by_turns(work, look, firewall, body, work)

        on_loop.append(await longest_stall_s(directly))
        in_thread.append(await longest_stall_s(apart))
    looking.close()
    return statistics.median(took), statistics.median(on_loop), statistics.median(in_thread)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="What looking through requests costs.")
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    firewall = Firewall(find_secret=open_scanner())
    prose = " ".join((ROOT / "docs" / name).read_text() for name in ("internals.md", "concepts.md", "clients.md"))
    code = "".join(path.read_text() for path in sorted((ROOT / "broker" / "gateway").glob("*.py")))
    print(f"bodies above {THREAD_BYTES:,} bytes go to the thread; medians of {rounds}, ms")
    print("| text | body | look | longest stall, on the loop | in the thread |\n|---|---:|---:|---:|---:|")
    for name, text in (("prose", harmless(prose, firewall)), ("code", harmless(code, firewall))):
        for size in SIZES:
            figures = asyncio.run(measure(size, text, firewall, rounds))
            print(f"| {name} | {size:,} | " + " | ".join(f"{1000 * figure:.1f}" for figure in figures) + " |")


if __name__ == "__main__":
    main()
