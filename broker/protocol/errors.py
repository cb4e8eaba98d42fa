"""What can be wrong with a request before anybody has looked at what it asks for. Status and form: ``error_page``."""

from broker.core.errors import CapacityError, RequestError


class MalformedError(RequestError):
    """It cannot be read: not JSON, not the coding it names, or not what the address takes."""

    code = "malformed"


class InvalidError(RequestError):
    """JSON of the wrong shape."""

    code = "invalid"


class TooLargeError(RequestError):
    """The body is over the limit, as it came or unpacked."""

    code = "too_large"


class MediaTypeError(RequestError):
    """Not plain JSON in UTF-8, or packed in a way that we do not know; the message lists those that we do."""

    code = "media_type"


class NotFoundError(RequestError):
    """There is nothing at this address."""

    code = "not_found"


class MethodNotAllowedError(RequestError):
    """The address does not answer to this method."""

    code = "method_not_allowed"

    def __init__(self, message: str, *, allow: str) -> None:
        super().__init__(message)
        self.allow = allow
        """Methods that it answers to."""


class UnauthorisedError(RequestError):
    """No API key, or an unknown one."""

    code = "unauthorised"


class RateLimitedError(CapacityError):
    """The API key sends more than its rate."""

    code = "rate_limited"

    def __init__(self, key: str, retry_after_s: int) -> None:
        super().__init__(f"key {key!r} sends too many requests")
        self.retry_after_s = retry_after_s


class BusyError(CapacityError):
    """As many requests, or as many bytes of them, as this process holds."""

    code = "busy"
