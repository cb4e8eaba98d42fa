"""The names a broker goes by: a ``Host`` that is none of them was not meant for it.

Rule: a page can reach this machine under a name of its own only if somebody's public DNS answers for that name, so a
name that no stranger can own needs no listing: addresses of this machine, names without a dot (``broker`` in a
container network, a tailnet's or a cluster's short names), ``localhost`` and what is below it, ``.internal`` (reserved
for private use, as in ``host.docker.internal``; ICANN resolution 2024.07.29.06), and this machine's own name.
"""

import ipaddress
import re

MAX_KNOWN = 256
"""How many spellings are remembered that were found to be among the names."""
LOOPBACK_NAMES = frozenset({"localhost", "localhost.localdomain", "ip6-localhost"})
_NAME = re.compile(r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*")
_PRIVATE_SUFFIXES = (".localhost", ".internal")
ANY = "*"


class Names:
    """The names that this broker goes by."""

    def __init__(self, *, host: str = "127.0.0.1", machine: str = "", listed: tuple[str, ...] = ()) -> None:
        own = (host, machine, f"{machine}.local" if machine else "", *LOOPBACK_NAMES, *listed)
        self._names = frozenset(name.lower().strip("[]") for name in own if name)
        self._suffixes = _PRIVATE_SUFFIXES + tuple(name[1:].lower() for name in listed if name.startswith("*."))
        self._takes_any = ANY in listed
        self._takes_addresses = not is_loopback(host)
        self.known: set[bytes | None] = {None}
        """Spellings found to be among them; None, of a client too old to say it, is."""

    def has(self, authority: bytes | None) -> bool:
        """Tell whether this is one of the names, with any port."""
        if authority in self.known:
            return True
        if authority is None or not self._is_ours(authority):
            return False
        if len(self.known) >= MAX_KNOWN:
            self.known.clear()
            self.known.add(None)
        self.known.add(authority)
        return True

    def _is_ours(self, authority: bytes) -> bool:
        name = name_of(authority)
        if name is None:
            return False
        if self._takes_any or name in self._names:
            return True
        if (address := _address(name)) is not None:
            return self._takes_addresses or address.is_loopback or address.is_unspecified
        return "." not in name or name.endswith(self._suffixes)


def name_of(authority: bytes) -> str | None:
    """The name or address in a ``Host``, in lower case, without port and final dot; None: it is not sound."""
    text = authority.decode("latin-1").strip().lower()
    if text.startswith("["):
        name, closed, port = text[1:].partition("]")
        if not closed or _address(name) is None or (port and not port.startswith(":")):
            return None
        port = port[1:]
    else:
        name, _, port = text.partition(":")
        name = name.removesuffix(".")
        if _NAME.fullmatch(name) is None:
            return None
    return name if not port or (port.isascii() and port.isdigit()) else None


def sound(name: str) -> str:
    """A name of the configuration as it is compared; a port is left out.

    Raises:
        ValueError: It can be no name; the message says why.
    """
    text = name.strip().lower()
    if text == ANY:
        return text
    below = "*." if text.startswith("*.") else ""
    found = name_of((f"[{text}]" if ":" in text and _address(text) else text.removeprefix(below)).encode())
    if found is None:
        raise ValueError(f"{name!r} is no name of a host: write it without scheme and path, as in gpu.example.org")
    return below + found


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can connect to the address."""
    address = _address(host)
    return host.lower() in LOOPBACK_NAMES if address is None else address.is_loopback


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address
