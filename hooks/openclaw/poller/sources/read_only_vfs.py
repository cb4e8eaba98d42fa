"""SQLite opened so that the operating system itself knows it as read-only: database, write-ahead log and shared memory.

``mode=ro`` is not enough: SQLite opens the log of such a database ``O_RDWR | O_CREAT`` all the same, and the shared
memory too without ``readonly_shm``. So a file system layer of our own goes between (SQLite calls it a VFS): the
system's own, but for the flags of an open.

Source: sqlite.org/c3ref/vfs.html; ``src/wal.c``, sqlite3WalOpen; measured with strace.
"""

import _sqlite3
import ctypes
import sqlite3
from ctypes import CFUNCTYPE, POINTER, Structure, c_char_p, c_int, c_void_p
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

NAME = "hotseat-read-only"
_OPEN_READ_ONLY, _OPEN_READ_WRITE, _OPEN_CREATE = 0x1, 0x2, 0x4
_MAIN_DATABASE, _WRITE_AHEAD_LOG = 0x100, 0x80000
_CANNOT_OPEN = 14
_METHODS_AFTER_OPEN = 16
"""Pointers after ``xOpen`` in version 3 of the structure."""

_Open = CFUNCTYPE(c_int, c_void_p, c_void_p, c_void_p, c_int, POINTER(c_int))


class _Vfs(Structure):
    _fields_ = (
        ("version", c_int),
        ("file_size", c_int),
        ("longest_path", c_int),
        ("next", c_void_p),
        ("name", c_char_p),
        ("app_data", c_void_p),
        ("open", c_void_p),
        ("methods", c_void_p * _METHODS_AFTER_OPEN),
    )


class NoReadOnlyError(Exception):
    """This Python hides its SQLite library, so that opening read-only cannot be guaranteed."""


def connect(path: Path, *, timeout_s: float) -> sqlite3.Connection:
    """Open a database that another process writes.

    Raises:
        NoReadOnlyError: It cannot be guaranteed here.
        sqlite3.Error: It cannot be opened.
    """
    _registered()
    uri = f"file:{quote(str(path))}?mode=ro&readonly_shm=1&vfs={NAME}"
    return sqlite3.connect(uri, uri=True, timeout=timeout_s, isolation_level=None)


@cache
def _registered() -> tuple[Any, ...]:
    """Put the layer in once; what SQLite points to must live as long as the process."""
    library = ctypes.CDLL(_sqlite3.__file__)
    try:
        find, register = library.sqlite3_vfs_find, library.sqlite3_vfs_register
    except AttributeError:
        raise NoReadOnlyError("this Python hides its SQLite library; use Debian's, or the gateway-api source") from None
    find.restype, find.argtypes = POINTER(_Vfs), (c_char_p,)
    register.restype, register.argtypes = c_int, (POINTER(_Vfs), c_int)
    system = find(None)
    system_open = _Open(system.contents.open)
    address = ctypes.cast(system, c_void_p)

    def read_only(_vfs: int, name: int, file: int, flags: int, granted: Any) -> int:
        if flags & (_MAIN_DATABASE | _WRITE_AHEAD_LOG):
            flags = (flags & ~(_OPEN_READ_WRITE | _OPEN_CREATE)) | _OPEN_READ_ONLY
        elif flags & _OPEN_CREATE and name:
            return _CANNOT_OPEN  # a journal; nameless temporary files are SQLite's own business
        return int(system_open(address, name, file, flags, granted))

    callback = _Open(read_only)
    layer = _Vfs.from_buffer_copy(system.contents)
    layer.next, layer.name, layer.open = None, NAME.encode(), ctypes.cast(callback, c_void_p)
    if register(ctypes.byref(layer), 0) != 0:
        raise NoReadOnlyError("SQLite refused the read-only layer")
    return layer, callback, system_open
