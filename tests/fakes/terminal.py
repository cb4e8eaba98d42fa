"""A pseudo-terminal, and programs on it: the first becomes its session leader, as the shell of a window is."""

import contextlib
import os
import pty
import select
import subprocess
import termios
import time


class Terminal:
    """What a person sees and types into."""

    def __init__(self) -> None:
        self._master, self._slave = pty.openpty()
        settings = termios.tcgetattr(self._slave)
        settings[3] &= ~termios.ECHO
        termios.tcsetattr(self._slave, termios.TCSANOW, settings)
        self.shown = b""

    def start(self, *argv: str, env: dict[str, str] | None = None, cwd: str | None = None) -> "subprocess.Popen[bytes]":
        """Start a program on it, with the signals of an interactive shell."""
        command = ["setsid", "--ctty", "env", "--default-signal", *argv]
        ends = {"stdin": self._slave, "stdout": self._slave, "stderr": self._slave}
        return subprocess.Popen(command, env={**(env or os.environ), "TERM": "xterm"}, cwd=cwd, **ends)

    def type(self, text: bytes) -> None:
        """As if on the keyboard: ``\\x03`` is Ctrl-C, ``\\x1a`` Ctrl-Z."""
        os.write(self._master, text)

    def read(self) -> bytes:
        """All that was shown so far."""
        with contextlib.suppress(OSError):
            while select.select([self._master], [], [], 0.05)[0]:
                self.shown += os.read(self._master, 65536)
        return self.shown

    def until(self, text: bytes, within_s: float = 30.0) -> None:
        """Wait until something is shown."""
        deadline_s = time.monotonic() + within_s
        while text not in self.read():
            assert time.monotonic() < deadline_s, f"{text!r} was not shown in time: {self.shown.decode()}"

    def close(self) -> None:
        """The window is closed."""
        for end in (self._master, self._slave):
            with contextlib.suppress(OSError):
                os.close(end)
