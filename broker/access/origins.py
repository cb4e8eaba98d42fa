"""Origins of web pages: which are this broker's own, and which others are wanted (CORS)."""

import re

MAX_KNOWN = 256
"""How many origins are remembered as wanted."""
ANY = "*"
_FORM = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<host>\*|(?:\*\.)?[a-z0-9._-]+|\[[0-9a-f:.]+\])(?P<port>:(?:\d{1,5}|\*))?"
)
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


class OriginError(ValueError):
    """It cannot be an origin; the message says why."""


class Origins:
    """The origins whose web pages may use this broker."""

    def __init__(self, wanted: tuple[str, ...] = ()) -> None:
        self._patterns = [_pattern(one) for one in wanted]
        self._wants_any = ANY in wanted
        self._known: set[bytes] = set()

    def wants(self, origin: bytes) -> bool:
        """Tell whether pages of this origin may use the broker."""
        if origin in self._known:
            return True
        text = origin.decode("latin-1").lower()
        if not self._wants_any and not any(pattern.fullmatch(text) for pattern in self._patterns):
            return False
        if len(self._known) >= MAX_KNOWN:
            self._known.clear()
        self._known.add(origin)
        return True

    @staticmethod
    def is_of(origin: bytes, host: bytes) -> bool:
        """Tell whether the page is the asked server's own. A proxy may take TLS off, so the scheme does not count."""
        scheme, _, authority = origin.decode("latin-1").lower().partition("://")
        default = _DEFAULT_PORTS.get(scheme)
        asked = host.decode("latin-1").lower()
        return default is not None and authority.removesuffix(default) == asked.removesuffix(default)


def sound(origin: str) -> str:
    """An origin of the configuration as browsers write it.

    Raises:
        OriginError
    """
    text = origin.strip().lower().removesuffix("/")
    if text == ANY:
        return text
    if text == "null":
        raise OriginError("'null' is the origin of every sandboxed page and every local file, so it names nobody")
    found = _FORM.fullmatch(text)
    if found is None:
        raise OriginError(f"{origin!r} is no origin: write scheme://host or scheme://host:port, without a path")
    if found["host"] == ANY and found["scheme"] in _DEFAULT_PORTS:
        raise OriginError(f"{origin!r} would be every page there is; write '*' if that is meant")
    return text.removesuffix(_DEFAULT_PORTS.get(found["scheme"], "\n"))


def _pattern(wanted: str) -> re.Pattern[str]:
    form = re.escape(wanted)
    if form.endswith(r":\*"):
        form = form.removesuffix(r":\*") + r"(?::\d+)?"
    return re.compile(form.replace(r"://\*\.", r"://(?:[a-z0-9_-]+\.)+").replace(r"://\*", r"://[a-z0-9._-]+"))
