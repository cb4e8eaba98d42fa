"""Who listens on a port of this host: the server that was started, or somebody else.

Rule: a port is believed to be ours only when every listener that could get our connection belongs to a process of the
server's own family, as ``/proc`` tells it. What cannot be told is somebody else's. Standard library only.
"""

import ipaddress
import os
import socket
import struct
from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path

from gpu_worker.host import procfs

_LISTEN = "0A"
_TABLES = ("/proc/net/tcp", "/proc/net/tcp6")


@dataclass(frozen=True, slots=True)
class Listener:
    """One listening TCP socket."""

    address: str
    inode: str

    @property
    def everywhere(self) -> bool:
        """Does it take connections to every address?"""
        return ipaddress.ip_address(self.address).is_unspecified


class StrangerError(Exception):
    """Somebody else listens there; the message says who, as far as that can be told."""


class Ownership:
    """Proof, asked again before every word to a server: the sockets on its port are its own."""

    def __init__(self, host: str, port: int, family: Callable[[], AbstractSet[int]]) -> None:
        """``family``: pids of the server and of all it forked; asked for only when a listener is not known yet."""
        self._host, self._port, self._family = host, port, family
        self._proved: frozenset[str] = frozenset()

    def is_there(self) -> bool:
        """Does our server listen? False while nobody does.

        Raises:
            StrangerError: Somebody else does, alone or beside it.
        """
        inodes = self._reached()
        if not inodes:
            return False
        if inodes == self._proved:  # an open socket keeps its number, and no other gets it
            return True
        family = self._family()
        strange = inodes - sockets_of(family)
        if not strange:
            self._proved = inodes
            return True
        holder = _holder(strange)
        if not holder and (not family or not strange & self._reached()):
            return False  # it was our server's, which ended while we looked
        holder = holder or "another process"
        raise StrangerError(f"port {self._port} is answered by {holder}, not by the server started for it")

    def _reached(self) -> frozenset[str]:
        return frozenset(listener.inode for listener in reached(listeners(self._port), self._host))


def reached(found: list[Listener], host: str) -> list[Listener]:
    """Those that a connection to the host could come to: an exact address goes before a wildcard."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:  # a name may stand for several addresses
        return found
    exact = [listener for listener in found if _same(ipaddress.ip_address(listener.address), address)]
    return exact or [listener for listener in found if listener.everywhere]


def exposed(port: int, family: Callable[[], AbstractSet[int]]) -> str:
    """Return an address off the loopback at which one of these processes listens on the port; empty without one."""
    outside = [one for one in listeners(port) if not _on_loopback(one.address)]
    own = sockets_of(family()) if outside else set()
    return next((one.address for one in outside if one.inode in own), "")


def _on_loopback(text: str) -> bool:
    address = ipaddress.ip_address(text)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


def _same(one: ipaddress.IPv4Address | ipaddress.IPv6Address, other: object) -> bool:
    mapped = one.ipv4_mapped if isinstance(one, ipaddress.IPv6Address) else None
    return other in {one, mapped}


def listeners(port: int) -> list[Listener]:
    """All listening TCP sockets of a port."""
    return [one for table in _TABLES for one in _in(table, f":{port:04X}")]


def _in(table: str, ending: str) -> Iterator[Listener]:
    try:
        lines = Path(table).read_text(encoding="ascii").splitlines()[1:]
    except OSError:  # no IPv6 here
        return
    for line in lines:
        if f"{ending} " in line:
            fields = line.split()
            if fields[3] == _LISTEN and fields[1].endswith(ending):
                yield Listener(_address(fields[1].partition(":")[0]), fields[9])


def _address(text: str) -> str:
    """The kernel prints an address as words of the host's own byte order."""
    words = [int(text[at : at + 8], 16) for at in range(0, len(text), 8)]
    packed = b"".join(struct.pack("=I", word) for word in words)
    return socket.inet_ntop(socket.AF_INET if len(packed) == 4 else socket.AF_INET6, packed)


def sockets_of(pids: AbstractSet[int]) -> set[str]:
    """Inodes of the sockets that these processes hold, as far as we may look."""
    return {inode for pid in pids for inode in _sockets(pid)}


def _sockets(pid: int) -> Iterator[str]:
    folder = f"/proc/{pid}/fd"
    try:
        descriptors = os.listdir(folder)  # noqa: PTH208 - as below
    except OSError:
        return
    for descriptor in descriptors:
        try:
            target = os.readlink(f"{folder}/{descriptor}")  # noqa: PTH115 - thousands of Path objects for nothing
        except OSError:
            continue
        if target.startswith("socket:["):
            yield target[8:-1]


def _holder(inodes: AbstractSet[str]) -> str:
    """Name the process whose sockets they are; empty where that cannot be told."""
    for proc in procfs.living():
        if inodes & set(_sockets(proc.pid)):
            return f"{procfs.name_of(proc.pid)} (pid {proc.pid})"
    return ""
