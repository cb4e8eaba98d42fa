"""Files that survive a crash whole, and a log that cannot fill the disk. Standard library only, for the guardian."""

import os


def write_durably(directory: int, name: str, content: bytes) -> None:
    """Replace a file so that a crash leaves the old or the new one, never a piece: temporary, fsync, rename, fsync."""
    temporary = f".{name}.{os.getpid()}"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600, dir_fd=directory)
    try:
        os.write(descriptor, content)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
    os.fsync(directory)


class RingLog:
    """The server's output in two files of half the bound each: the older half is dropped when the newer is full."""

    def __init__(self, directory: int, limit_bytes: int) -> None:
        self._directory = directory
        self._half = max(4096, limit_bytes // 2)
        self._size = 0
        self._file = self._open()

    def _open(self) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND
        return os.open("server.log", flags, 0o600, dir_fd=self._directory)

    def write(self, data: bytes) -> None:
        """Append; a full disk loses log lines, not the server."""
        try:
            if self._size + len(data) > self._half:
                os.close(self._file)
                os.rename("server.log", "server.log.1", src_dir_fd=self._directory, dst_dir_fd=self._directory)
                self._file = self._open()
                self._size = 0
            self._size += os.write(self._file, data)
        except OSError:
            return
