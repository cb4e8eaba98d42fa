"""How long a client bears silence: what it says itself, else what its kind is known to do.

A client that gives up loses its try, and the SDKs try three times in all. So it is held as long as it bears, and no
longer.
"""

import math
import re
from collections.abc import Mapping
from contextlib import suppress

SAID_IN = (b"x-stainless-read-timeout", b"x-stainless-timeout", b"x-litellm-timeout")
"""Headers with the seconds between two bytes, or in all: the official SDKs send them, and LiteLLM for its clients."""
_WAITS = re.compile(rb"\bwait\s*=\s*(\d{1,6})\b", re.IGNORECASE)
"""The part of ``Prefer`` (RFC 7240) by which a client says how long it is ready to wait, seconds."""

FETCH_S = 300.0
"""``fetch`` of Node and its like gives up on a head after this, whatever the SDK above allows: undici's
``headersTimeout``."""
KINDS: tuple[tuple[bytes, float], ...] = (
    (b"curl/", math.inf),
    (b"wget/", 900.0),
    (b"python-requests/", math.inf),
    (b"postmanruntime/", math.inf),
    (b"insomnia/", math.inf),
    (b"axios/", math.inf),
    (b"node", FETCH_S),
    (b"undici", FETCH_S),
    (b"ai-sdk/", FETCH_S),
    (b"ai/", FETCH_S),
)
"""How a user agent begins, and after how many seconds of silence it gives up as it comes. One that is not here may have
any limit; neither is httpx: 5 s as it comes, but hardly anybody leaves it at that."""
_AIOHTTP = b" aiohttp/"
AIOHTTP_S = 300.0


def said_s(headers: Mapping[bytes, bytes]) -> float | None:
    """Return after how many seconds of silence the client gives up by its own word; None: it does not say."""
    for name in SAID_IN:
        if (word := headers.get(name)) is not None:
            with suppress(ValueError):
                return _sound(float(word.decode("latin-1")))
    found = _WAITS.search(headers.get(b"prefer", b""))
    return _sound(float(found[1])) if found else None


def known_s(headers: Mapping[bytes, bytes]) -> float | None:
    """Return the same as it is known for clients of its kind; None: it is not known."""
    agent = headers.get(b"user-agent", b"").lower()
    if _AIOHTTP in agent:
        return AIOHTTP_S
    return next((limit_s for begin, limit_s in KINDS if agent.startswith(begin)), None)


def bears_s(headers: Mapping[bytes, bytes], longest_s: float) -> float | None:
    """Return after how many seconds of silence this client gives up, as far as is known."""
    said = said_s(headers)
    if said is None:
        known = known_s(headers)
        return None if known is None else min(known, longest_s)
    by_fetch = headers.get(b"x-stainless-lang") == b"js" and headers.get(b"x-stainless-runtime") in {b"node", b"bun"}
    return min(said, FETCH_S) if by_fetch else said


def _sound(seconds: float) -> float | None:
    return seconds if seconds > 0 and not math.isnan(seconds) else None
