"""Gives memory that was freed back to the operating system.

glibc takes large blocks from the system one by one and gives them back when they are freed; but each one that is freed
raises the size from which it does so, up to 32 MiB. Then the bodies of requests lie among small objects that stay, and
what is freed between these stays resident: up to 350 MiB after ten seconds of bodies of 64 KiB to 31 MiB, of which none
was left, and 20 MiB with the limit here (glibc 2.36, measured). Smaller ones are trimmed when much is over: five
hundred bodies of 700 kB left 240 MiB behind, and 9 MiB now.

Other C libraries have no such calls, and are left as they are.
"""

import asyncio
import ctypes
from typing import Protocol

OWN_BLOCK = 1024 * 1024
"""Bytes from which a block is the system's own; a limit that was set never moves. Such a block has to be cleared by the
system each time (1 ms per MiB on a slow machine), so ordinary prompts are below it."""
KEPT_AT_TOP = 4 * 1024 * 1024
"""Free bytes at the end of a heap that are kept for what comes next. Where the limit above is set, glibc keeps 128 KiB
and asks the system again for every other request."""
LOOK_S = 1.0
MUCH = 16 * 1024 * 1024
"""How many bytes the bodies in flight must have become less before a trim: a steady load would only ask for them
again."""
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_libc = ctypes.CDLL(None)


class LargeMemory(Protocol):
    """Something large in memory that comes and goes, as the bodies of requests do."""

    def fallen(self) -> int:
        """Tell by how many bytes it has become less since it was most."""

    def forget_most(self) -> None:
        """Begin to look for the most from now on."""


def settle() -> None:
    """Set the limits of this process; call it once at the start."""
    if hasattr(_libc, "mallopt"):
        _libc.mallopt(_M_MMAP_THRESHOLD, OWN_BLOCK)
        _libc.mallopt(_M_TRIM_THRESHOLD, KEPT_AT_TOP)


def trim() -> None:
    """Give back what is free among smaller blocks. Nothing is answered meanwhile: some 0.2 ms for each MiB of it."""
    if hasattr(_libc, "malloc_trim"):
        _libc.malloc_trim(0)


async def forever(held: LargeMemory) -> None:
    """Trim whenever much was freed, one look later, as last references go after the count; until cancelled."""
    was_much = False
    while True:
        await asyncio.sleep(LOOK_S)
        is_much = held.fallen() >= MUCH
        if is_much and was_much:
            held.forget_most()
            trim()
        was_much = is_much
