"""What a load with ``key = "none"`` adds: a place inside where its server listens, and the door at its address.

Only its own user reaches a socket in the load's folder; a loopback port everybody on the host reaches who finds it.
That the server listens there and nowhere further out is looked at before every word to it.
"""

import stat
import sys
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from gpu_worker.drivers.failing import Failing
from gpu_worker.drivers.port import LoadError
from gpu_worker.host.listeners import Ownership, StrangerError, exposed

KEYLESS = "none"
"""The ``key`` of a model whose server knows no keys."""
LOOPBACK = "127.0.0.1"
SOCKET_PATH_BYTES = 107
"""The kernel's limit."""
_ROOT = Path(__file__).resolve().parents[3]
_PROGRAM = "import sys; sys.path[:0] = {places!r}; from gpu_worker.door.main import main; main()"


class Inside:
    """Where a server behind a door listens: at the path of a socket, or at a loopback port."""

    def __init__(self, family: Callable[[], AbstractSet[int]], *, socket: str = "", port: int = 0) -> None:
        self._family, self._socket, self._port = family, socket, port
        self._ownership = Ownership(LOOPBACK, port, family)

    @classmethod
    def of_note(cls, note: Mapping[str, Any], family: Callable[[], AbstractSet[int]]) -> "Inside | None":
        """As a former worker noted it; None without a door."""
        return cls(family, **note["inside"]) if note.get("inside") else None

    @property
    def note(self) -> Mapping[str, Any]:
        """What the next worker has to know."""
        return {"socket": self._socket, "port": self._port}

    @property
    def fillings(self) -> Mapping[str, str]:
        """What the command gets instead of the address that brokers are told."""
        return {"host": LOOPBACK, "port": str(self._port), "socket": self._socket}

    def check(self) -> None:
        """See whether a server can listen there.

        Raises:
            LoadError: The path is too long for a socket.
        """
        if len(self._socket.encode()) > SOCKET_PATH_BYTES:
            what = f"{{socket}}: {self._socket} is longer than {SOCKET_PATH_BYTES} bytes; choose a shorter state_dir"
            raise LoadError(what, Failing.PERMANENT)

    def is_there(self) -> bool:
        """Does the server listen inside, and only there?

        Raises:
            StrangerError: Somebody else does, or it can be reached past its door.
        """
        if self._socket:
            return _is_socket(Path(self._socket))
        if address := exposed(self._port, self._family):
            raise StrangerError(f"the server listens on {address}, past its door; let it listen on {{host}} only")
        return self._ownership.is_there()

    def order(self, *, host: str, port: int, key: str, env: Mapping[str, str]) -> Mapping[str, Any]:
        """Say to a guardian what door to open in front, and where."""
        told = {"key": key, "socket": self._socket, "host": LOOPBACK, "port": self._port}
        return {"host": host, "port": port, "argv": _argv(), "env": dict(env), "told": told}


def _is_socket(path: Path) -> bool:
    try:
        return stat.S_ISSOCK(path.stat().st_mode)
    except OSError:
        return False


def _argv() -> list[str]:
    """An interpreter without ``site``, which starts in a fraction of the time, and the one package that it needs."""
    spec = find_spec("httptools")
    assert spec is not None
    assert spec.origin is not None
    places = [str(_ROOT), str(Path(spec.origin).parents[1])]
    return [sys.executable, "-I", "-S", "-c", _PROGRAM.format(places=places)]
