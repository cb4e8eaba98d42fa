"""What a command says, as other commands do it: into pipes that nobody reads, onto full disks, with closed descriptors.

Rules:

1. A reader that has gone (`hotseat ps | head`) ends a command in silence, as it ends `ls`.
2. Output that cannot be written is an error: one line, and a status that says so.
3. Remarks on standard error are for whoever listens; that nobody does changes nothing.
4. Descriptors 0 to 2 are always taken: else the next socket would be standard output, and be printed into.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import IO, TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

_Stream = TypeVar("_Stream", bound=io.TextIOWrapper)

READER_GONE = 141
"""128 and the number of SIGPIPE: how a shell tells that this signal ended a command."""
LOST = 1


class OutputError(OSError):
    """Standard output takes no more; the error number says why."""


class _Output(io.TextIOWrapper):
    """Standard output, whose errors can be told from those of files and sockets."""

    def write(self, text: str) -> int:
        """Write text as usual.

        Raises:
            OutputError: Standard output takes no more.
        """
        try:
            return super().write(text)
        except OSError as error:
            raise OutputError(error.errno, error.strerror) from None

    def flush(self) -> None:
        """Flush as usual.

        Raises:
            OutputError: Standard output takes no more.
        """
        try:
            super().flush()
        except OSError as error:
            raise OutputError(error.errno, error.strerror) from None


class _Remarks(io.TextIOWrapper):
    """Standard error; what it does not take is dropped."""

    def write(self, text: str) -> int:
        """Write text as usual; what cannot be written is dropped."""
        try:
            return super().write(text)
        except OSError:
            return len(text)

    def flush(self) -> None:
        """Flush as usual; what cannot be written is dropped."""
        try:
            super().flush()
        except OSError:
            _drop(2)


def run_as_process(command: Callable[[], int]) -> int:
    """Run a command with the process's own streams.

    Returns:
        Its exit status; ``READER_GONE`` or ``LOST`` where its output was lost.
    """
    _take_places()
    out = sys.stdout = _reopened(_Output, sys.stdout, 1)
    sys.stderr = _reopened(_Remarks, sys.stderr, 2)
    try:
        try:
            return command()
        finally:
            out.flush()
    except OutputError as error:
        _drop(1)
        if error.errno == errno.EPIPE:
            return READER_GONE
        sys.stderr.write(f"hotseat: cannot write: {error.strerror}\n")
        return LOST


def _take_places() -> None:
    """Open what is closed, for the wrong direction, so that using it is an error as before; remarks go nowhere."""
    for descriptor, flags in enumerate((os.O_WRONLY, os.O_RDONLY, os.O_WRONLY)):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, flags), True)  # it gets the lowest number that is free: this one


def _reopened(kind: type[_Stream], stream: IO[str] | None, descriptor: int) -> _Stream:
    """Make a stream in another one's place; None: its descriptor was closed when the process began."""
    if not isinstance(stream, io.TextIOWrapper):
        stream = open(descriptor, "w", encoding="utf-8", closefd=False)  # noqa: SIM115  to the end of the process
    encoding, errors, lines = stream.encoding, stream.errors, stream.line_buffering
    if errors == "strict":
        errors = "backslashreplace"  # an arrow that a terminal cannot show is no reason to show nothing
    return kind(stream.detach(), encoding, errors, line_buffering=lines)


def _drop(descriptor: int) -> None:
    """Drop what is still in a buffer, so that the interpreter's end does not stumble over it."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)
