"""What is left when something is over: nothing of ours for the collector, and no byte of what came in.

Reference counts free what is in no cycle at once; what is in one stays until a full collection, of which there may be
one in an hour.
"""

import asyncio
import contextlib
import gc
import tracemalloc
import types
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

PACKAGES = ("broker.", "schemas.", "uvicorn.", "httptools.", "hiredis.", "starlette.", "fastapi.")
FOLDERS = ("/broker/", "/schemas/", "/uvicorn/", "/starlette/", "/fastapi/")


@dataclass
class LeftOver:
    """Filled when its block is left."""

    objects: Counter[str] = field(default_factory=Counter)
    """In cycles, by kind."""
    bytes: int = 0
    """That are held more than before, cycles included."""


@contextlib.asynccontextmanager
async def left_over() -> AsyncIterator[LeftOver]:
    """What the block leaves behind. Let everything in it come to its end."""
    found = LeftOver()
    gc.collect()
    gc.disable()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    try:
        yield found
        await asyncio.sleep(0)
        found.bytes = tracemalloc.get_traced_memory()[0] - before
        found.objects = Counter(name for one in _in_cycles() if (name := _ours(one)))
    finally:
        tracemalloc.stop()
        gc.enable()


def _in_cycles() -> list[object]:
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        gc.collect()
    finally:
        gc.set_debug(0)
    found = list(gc.garbage)
    gc.garbage.clear()
    return found


def _ours(one: object) -> str:
    """What to call it; empty: it is the test's."""
    if isinstance(one, types.FrameType):
        return _of_code("frame", one.f_code, f":{one.f_lineno}")
    if isinstance(one, types.CoroutineType):
        return _of_code("coroutine", one.cr_code)
    if isinstance(one, types.AsyncGeneratorType):
        return _of_code("generator", one.ag_code)
    if isinstance(one, types.GeneratorType):
        return _of_code("generator", one.gi_code)
    if isinstance(one, types.FunctionType):
        return _of_code("function", one.__code__)
    kind = type(one)
    return kind.__qualname__ if f"{kind.__module__}.".startswith(PACKAGES) else ""


def _of_code(what: str, code: types.CodeType, more: str = "") -> str:
    ours = any(folder in code.co_filename for folder in FOLDERS) and "/tests/" not in code.co_filename
    return f"{what} {code.co_qualname}{more}" if ours else ""
