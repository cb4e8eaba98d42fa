"""What can go wrong between the broker and a model server."""

from broker.core.errors import BackendError


class ServerError(BackendError):
    """The model server, or the upstream, let us down."""

    code = "upstream"


class UnreachableError(ServerError):
    """There is no connection: nothing listens there, or not in time."""

    code = "upstream_unreachable"


class BrokenAnswerError(ServerError):
    """The connection ended before the answer did, or what came is not HTTP."""

    code = "upstream_broken"


class SilentError(ServerError):
    """Nothing came for too long."""

    code = "upstream_silent"
