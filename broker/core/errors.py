"""The error tree, grouped by who must act.

``code`` is the wire word: the first word of a Redis function's error reply (in upper case), and ``code`` in a problem
document.
"""

from typing import ClassVar


class HotseatError(Exception):
    """Root of everything we raise on purpose."""

    code: ClassVar[str] = "internal"
    retry_after_s: int | None = None
    """When to ask again, whole seconds; None: as the error page has it for the code."""


class RequestError(HotseatError):
    """The caller must change the request; sent again as it is, it fails again."""


class ConflictError(HotseatError):
    """The caller's picture is old: it must read again."""


class CapacityError(HotseatError):
    """The caller should wait, then ask again."""


class BackendError(HotseatError):
    """Hotseat itself, or what it depends on, is at fault; the caller did nothing wrong."""


class ModelUnavailableError(BackendError):
    """Nobody can be served with this model as things are; ``retry_after_s`` says when that may have changed."""

    retry_after_s: int

    def __init__(self, message: str, *, retry_s: int = 30) -> None:
        super().__init__(message)
        self.retry_after_s = retry_s

    @classmethod
    def told(cls, message: str) -> "ModelUnavailableError":
        """From an error reply of the store: the seconds, then the words."""
        seconds, _, words = message.partition(" ")
        return cls(words, retry_s=int(seconds)) if seconds.isdecimal() else cls(message)


class BadArgumentError(RequestError):
    """A value is out of its bounds."""

    code = "bad_argument"


class UnknownModelError(RequestError):
    """The catalogue has no such model."""

    code = "unknown_model"


class ModelTooLargeError(RequestError):
    """No slot of the pool could ever hold it."""

    code = "model_too_large"


class OperationMismatchError(RequestError):
    """The idempotency key was used before with another body."""

    code = "op_mismatch"


class LeaseNotFoundError(RequestError):
    """No such lease, or not one of yours."""

    code = "not_found"


class StaleNonceError(ConflictError):
    """The lease was granted to somebody else since; nothing changed."""

    code = "stale_nonce"


class LeaseEndedError(ConflictError):
    """Too late; ask for a new lease."""

    code = "lease_ended"


class LifeEndedError(ConflictError):
    """This broker's life is over: its beats were missed, or another start took its name; begin a new one."""

    code = "life_ended"


class StaleDecisionError(ConflictError):
    """The state moved on since the snapshot; decide again."""

    code = "stale"


class QueueFullError(CapacityError):
    """As many tickets wait in the pool as may."""

    code = "queue_full"


class SessionQueueFullError(CapacityError):
    """The session has as many tickets waiting as it may."""

    code = "session_queue_full"


class TenantFullError(CapacityError):
    """The API key has as many open leases as it may."""

    code = "tenant_full"


class StoreFullError(CapacityError):
    """The store is over its memory limit; leases can still be renewed and released."""

    code = "store_full"


class ModelQuarantinedError(ModelUnavailableError):
    """The model failed too often wherever it could run: given up for a while."""

    code = "model_quarantined"


class LoadFailedError(ModelUnavailableError):
    """The model cannot be loaded as it is configured; the message says why, in its server's own words."""

    code = "load_failed"


class ModelOffError(ModelUnavailableError):
    """An operator took the model out of service."""

    code = "model_off"


class ModelNotWarmError(ModelUnavailableError):
    """The model is loaded nowhere, and the request is to be served only while it is."""

    code = "model_not_warm"


class StoreUninitialisedError(BackendError):
    """The store holds no pool: fresh, flushed, or the wrong database."""

    code = "uninitialised"


class StoreUnavailableError(BackendError):
    """The store does not answer."""

    code = "store_unavailable"


class LibraryError(BackendError):
    """The function library is missing, of another version, or somebody else's."""

    code = "library"


class NewerLibraryError(LibraryError):
    """A later version of Hotseat shares the store: this one must not go on."""


def _tree(root: type[HotseatError]) -> dict[str, type[HotseatError]]:
    found = {root.code: root}
    for child in root.__subclasses__():
        found = _tree(child) | found
    return found


BY_CODE: dict[str, type[HotseatError]] = _tree(HotseatError)
"""Wire word to class; of those with the same word the most general."""
