"""One child process of `hotseat up`: own session, own log, gone when the launcher is gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

DIE_WITH_PARENT = Path(__file__).with_name("die_with_parent.py")
LOG_TAIL_BYTES = 2000
LARGEST_LOG_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """A started process. Its own session keeps the terminal's Ctrl-C from reaching it before its turn."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    @classmethod
    def start(
        cls,
        argv: Sequence[str],
        *,
        name: str,
        log: Path,
        env: Mapping[str, str] | None = None,
        orphan_signal: signal.Signals = signal.SIGTERM,
    ) -> Self:
        """Start a program; its output is added to `log`, which is set aside as `….1` when it has grown large.

        Must be called from the main thread: the kernel's notion of a parent is the starting thread.

        Args:
            argv: The program and its arguments.
            name: What people call it.
            log: File for its output.
            env: Its whole environment; None inherits.
            orphan_signal: What it gets when this process has died without stopping it.

        Raises:
            OSError: The log cannot be written.
        """
        launch = [sys.executable, "-I", "-S", str(DIE_WITH_PARENT), str(os.getpid()), str(int(orphan_signal)), *argv]
        if log.exists() and log.stat().st_size > LARGEST_LOG_BYTES:
            log.replace(log.with_name(f"{log.name}.1"))
        with log.open("ab") as output:
            process = subprocess.Popen(
                launch, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=env, start_new_session=True
            )
        return cls(name=name, process=process, log=log)

    def is_running(self) -> bool:
        """Whether the process has not ended yet."""
        return self.process.poll() is None

    def stop(self, *, timeout_s: float) -> None:
        """SIGTERM, then SIGKILL for its whole session after `timeout_s` seconds; safe to repeat."""
        if not self.is_running():
            return
        self.process.terminate()
        try:
            self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def log_tail(self) -> str:
        """Return the end of its output, for an error message."""
        return self.log.read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace").strip()
