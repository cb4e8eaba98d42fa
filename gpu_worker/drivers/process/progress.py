"""How far a load has come, told by what the server's process has taken in."""

from pathlib import Path

from gpu_worker.host import procfs

LOADING_PROGRESS_LIMIT = 99
"""Percent; a hundred is said by the server itself, by being ready."""


def progress_percent(pid: int, model_path: Path | None) -> int:
    """How much of the weights the server has taken in, 0 to 99; 0 where nobody can tell.

    Bytes it has read or mapped in, over the size of the file: an upper bound for how far it is, for it also reads its
    own program. Honest enough for a progress bar, and never a hundred before the server says so itself.
    """
    try:
        size = model_path.stat().st_size if model_path is not None else 0
    except OSError:
        return 0
    return min(LOADING_PROGRESS_LIMIT, 100 * procfs.bytes_read(pid) // size) if size else 0
