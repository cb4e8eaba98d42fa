"""How fast a disk gives out a file: a short read past the page cache.

A read beside it (``O_DIRECT``) leaves the cache as it is. Where a file system cannot do that, the pages to be read are
dropped first, which costs whoever needs them no more than one read.
"""

import mmap
import os
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

MOST_BYTES = 64 * 2**20
LEAST_BYTES = 4 * 2**20
"""Less than this says nothing."""
WITHIN_S = 1.0
CHUNK = 2**20


def measure(file: Path, stop: Callable[[], bool]) -> float | None:
    """Read up to 64 MiB from the middle of a file, for a second at most.

    Args:
        file: A regular file.
        stop: Asked between reads whether somebody else needs the disk now.

    Returns:
        Bytes per second; None when it was stopped.

    Raises:
        OSError: It cannot be read, or is too small to tell.
    """
    try:
        return _read(file, os.O_DIRECT, stop)
    except OSError:  # EINVAL at the opening or at the first read, as the file system likes
        return _read(file, 0, stop)


def _read(file: Path, how: int, stop: Callable[[], bool]) -> float | None:
    fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC | how)
    try:
        size = os.fstat(fd).st_size
        first = max(0, size - MOST_BYTES) // 2 // CHUNK * CHUNK
        if not how:
            os.posix_fadvise(fd, first, MOST_BYTES, os.POSIX_FADV_DONTNEED)
        with closing(mmap.mmap(-1, CHUNK)) as chunk:  # aligned, as a direct read wants it
            return _time(fd, first, chunk, stop)
    finally:
        os.close(fd)


def _time(fd: int, first: int, chunk: mmap.mmap, stop: Callable[[], bool]) -> float | None:
    done, got = 0, CHUNK
    began_s = time.monotonic()
    while got == CHUNK and done < MOST_BYTES and time.monotonic() - began_s < WITHIN_S:
        if stop():
            return None
        got = os.preadv(fd, [chunk], first + done)
        done += got
    took_s = time.monotonic() - began_s
    if done < LEAST_BYTES and took_s < WITHIN_S:
        raise OSError("too small to tell how fast its disk is")
    return done / max(took_s, 1e-6)
