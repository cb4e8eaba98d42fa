"""What can go wrong between the broker and a model server."""

from broker.core.errors import BackendError


class UpstreamError(BackendError):
    """The model server let us down."""

    code = "upstream"


class UnreachableError(UpstreamError):
    """No connection: nothing listens there, or not in time."""

    code = "upstream_unreachable"


class BrokenAnswerError(UpstreamError):
    """The connection ended before the answer did, or what came is not HTTP."""

    code = "upstream_broken"


class SilentError(UpstreamError):
    """Nothing came for too long."""

    code = "upstream_silent"
