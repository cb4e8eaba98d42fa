"""The last bytes of what passed: cheap to add to, exact when it is asked for."""

TAIL_BYTES = 8 * 1024
"""How many bytes are kept at least; the last events of a stream have some hundred bytes each."""
_SLACK = 4 * TAIL_BYTES
"""Pieces are kept as they are until there is so much of them, then joined once."""


class Tail:
    """The end of one answer; it changes with each piece."""

    __slots__ = ("_pieces", "_size")

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._size = 0

    def add(self, piece: bytes) -> None:
        """Add one more piece of the answer at its end."""
        self.extend([piece])

    def extend(self, pieces: list[bytes]) -> None:
        """Add several pieces at once, in their order."""
        self._pieces += pieces
        self._size += sum(map(len, pieces))
        if self._size > _SLACK:
            self._pieces = [self.content()]
            self._size = len(self._pieces[0])

    def content(self) -> bytes:
        """Return the last ``TAIL_BYTES``, however they were cut."""
        return b"".join(self._pieces)[-TAIL_BYTES:]
