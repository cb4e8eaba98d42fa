"""What a publisher must be able to do, and how it says that it could not."""

from collections.abc import Iterator, Mapping
from typing import Protocol

from hooks.openclaw.poller.activity import Warm


class PublishError(Exception):
    """It was not published, or perhaps not; the next period publishes again."""


class RefusedError(PublishError):
    """The receiver does not let us; publishing again will not help."""


class Publisher(Protocol):
    """Where renewals and releases go. Both are safe to repeat."""

    def renew(self, leases: tuple[Warm, ...]) -> Iterator[Warm]:
        """Keep these warm for another TTL; yields each that was accepted.

        Raises:
            PublishError: It could not be said; those already yielded were.
        """

    def release(self, leases: tuple[Warm, ...]) -> Iterator[Warm]:
        """Give these back; yields each that was accepted.

        Raises:
            PublishError: It could not be said; those already yielded were.
        """

    def refused(self) -> Mapping[str, str]:
        """Return the models that could not be kept warm at the last renewal, and why; empty where nobody answers."""

    def close(self) -> None:
        """Drop the connections; nothing is published afterwards."""
