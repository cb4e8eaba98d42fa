"""What a source must be able to do, and how it says that it cannot read."""

from typing import Protocol

from hooks.openclaw.poller.activity import Reading


class SourceError(Exception):
    """Sessions cannot be read now: away, locked, being written. Reading again may help."""


class UnsupportedError(SourceError):
    """They are in a form this version does not know, or access is refused; reading again will not help."""


class Source(Protocol):
    """A place where sessions are read."""

    def read(self) -> Reading:
        """Look once at all sessions.

        Raises:
            SourceError: Nothing could be read. What could be read in part says so in ``faults``.
        """

    def close(self) -> None:
        """Let go of what is open; nothing is read afterwards."""
