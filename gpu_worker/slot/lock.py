"""One worker per slot on this host: a lock on a file, which the kernel drops with the process that holds it."""

import fcntl
import os
from pathlib import Path


class SlotTakenError(Exception):
    """Another worker on this host serves the slot; the message names it."""


class SlotLock:
    """Held from construction until `release` or the end of the process."""

    def __init__(self, folder: Path, slot: str) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(self._descriptor, 32).decode("ascii", "replace").strip() or "unknown"
            os.close(self._descriptor)
            raise SlotTakenError(
                f"slot {slot!r} is already served by another worker on this host (pid {holder}); "
                "stop that one, or give this one another slot or state_dir"
            ) from None
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Let another worker have the slot."""
        os.close(self._descriptor)
