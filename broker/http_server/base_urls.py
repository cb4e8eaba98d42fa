"""What clients mean whose base URL is wrong, and whose error bodies they read.

Rule: a base URL that lacks ``/v1``, has it twice or ends in a slash is served, for it is clear what is meant.
"""

from collections.abc import Container

from broker.protocol.endpoints import ENDPOINTS, Dialect

POSTED = frozenset(endpoint.path for endpoint in ENDPOINTS)
ANTHROPIC = b"anthropic-version"
"""A header that only Anthropic's clients send."""
_LAST_WORDS = frozenset(path.rpartition("/")[2] for path in POSTED) | {"v1", "models"}
_BY_HAND = frozenset({"off", "on", "load", "unload"})
"""What operators do to ``/models/NAME``: our own too."""
_BEGINNINGS = ("/v1/", "/api/", "/v1beta/", "/openai/")
"""How our addresses begin, and other servers' that clients know (Ollama's, Google's, Azure's)."""


def is_meant(path: str) -> bool:
    """Tell whether it is meant for ``/v1``, also by a client whose base URL is wrong. ``/models`` is our own."""
    if path.startswith(_BEGINNINGS):
        return True
    words = [word for word in path.split("/") if word]
    if len(words) > 2 and words[0] == "models" and words[-1] in _BY_HAND:
        return False
    return bool(words) and path != "/models" and (words[0] in {"v1", "models"} or words[-1] in _LAST_WORDS)


def below_v1(path: str) -> str:
    """Return the address below ``/v1`` that is meant, without what is twice: ``/v1/v1/models/`` means ``/models``."""
    words = [word for word in path.split("/") if word]
    while words and words[0] == "v1":
        del words[0]
    return "/" + "/".join(words)


def dialect_of(path: str, names: Container[bytes]) -> Dialect | None:
    """Tell who asks, by the address and the names of the headers; None: a client of our own API."""
    if not is_meant(path):
        return None
    return Dialect.ANTHROPIC if ANTHROPIC in names or below_v1(path).startswith("/messages") else Dialect.OPENAI
