"""One process of a cluster: started, killed, started again whenever it is gone."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hotseat.up.child import DIE_WITH_PARENT

STOP_TIMEOUT_S = 15.0
POLL_S = 0.02


@dataclass(slots=True, kw_only=True, eq=False)
class Part:
    """One process that is started again whenever it is gone."""

    name: str
    argv: Sequence[str]
    folder: Path
    env: Mapping[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    wanted: bool = False
    starts: int = 0
    unexpected: list[str] = field(default_factory=list)
    """Ends nobody asked for."""
    down_until_s: float = 0.0

    @property
    def pid(self) -> int:
        """Of the running process; 0 when there is none."""
        return self.process.pid if self.process is not None and self.process.poll() is None else 0

    def start(self) -> None:
        """Start it; its output is appended to its log. It is killed when this process ends, however it ends."""
        launcher = [sys.executable, "-I", "-S", str(DIE_WITH_PARENT), str(os.getpid()), str(int(signal.SIGKILL))]
        with (self.folder / f"{self.name}.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*launcher, *self.argv],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env={**os.environ, **self.env},
                start_new_session=True,
            )
        self.wanted, self.starts = True, self.starts + 1

    def kill(self, *, down_s: float) -> None:
        """SIGKILL; it is started again after ``down_s``."""
        self.down_until_s = time.monotonic() + down_s
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def watch(self) -> None:
        """Start it again when it is gone and its time has come. An end nobody asked for is noted."""
        if not self.wanted or self.process is None or self.process.poll() is None:
            return
        if self.process.returncode != -signal.SIGKILL and time.monotonic() >= self.down_until_s:
            self.unexpected.append(f"{self.name} ended with status {self.process.returncode}")
            self.down_until_s = time.monotonic() + 1.0
            self.process.returncode = -signal.SIGKILL
        if time.monotonic() >= self.down_until_s:
            self.start()

    async def stop(self) -> bool:
        """SIGTERM, then SIGKILL; says whether it went in peace."""
        self.wanted = False
        if self.process is None or self.process.poll() is not None:
            return True
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process.pid, signal.SIGCONT)
        self.process.terminate()
        if await wait_for(lambda: self.pid == 0, STOP_TIMEOUT_S):
            return True
        self.process.kill()
        self.process.wait()
        return False


async def wait_for(condition: Callable[[], bool], within_s: float) -> bool:
    """Look until it holds; False when the time is up."""
    deadline_s = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline_s:
            return False
        await asyncio.sleep(POLL_S)
    return True
