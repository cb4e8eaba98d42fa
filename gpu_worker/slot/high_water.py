"""The durable high-water mark of one slot: the highest generation ever acted upon, on the GPU host's own disk.

Rule: written before acting (temporary, fsync, rename, fsync of the folder). A mark that cannot be read is set aside and
the slot starts over with a handshake: the registration answers with a generation above everything.
"""

import os
import re
from pathlib import Path

from gpu_worker.host.durable import write_durably

_NAME = "high_water"
_WHOLE = re.compile(rb"[0-9]{1,15}\n")
"""The line end proves that the number is whole."""


class HighWater:
    """The mark of one slot, in its folder of the state directory."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder = folder
        self.broken = False
        """Whether a mark was found that could not be read."""
        self.generation = self._read()

    def _read(self) -> int:
        path = self._folder / _NAME
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return 0
        if _WHOLE.fullmatch(content):
            return int(content)
        self.broken = True
        path.rename(path.with_suffix(".broken"))
        return 0

    def at_least(self, generation: int) -> None:
        """Raise the mark for this process; for what is known to have been acted upon already."""
        self.generation = max(self.generation, generation)

    def raise_to(self, generation: int) -> None:
        """Write the mark; returns when it is on the disk. Never lowers it.

        Raises:
            OSError: It could not be written: the generation must not be acted upon.
        """
        if generation <= self.generation:
            return
        descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            write_durably(descriptor, _NAME, b"%d\n" % generation)
        finally:
            os.close(descriptor)
        self.generation = generation
