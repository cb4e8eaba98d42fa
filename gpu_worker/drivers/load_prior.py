"""How long a load should take before there was any: the bytes of its weights over the speed of their disk, and a start.

The speed is measured once per file system, with one of the files that lie there, while nothing is loaded.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

from gpu_worker.drivers.port import Weights
from gpu_worker.host.disk_speed import measure

UNMEASURED = 500e6
"""Bytes per second of a disk of which nothing is known: one with a SATA plug."""
SLOWEST, FASTEST = 10e6, 2e9
"""What is measured counts within these: faster disks do not load faster, the way to the device does not keep up with
them (mapped files come with 0.2 to 1.2 GB/s; docs/scheduling.md, "Physical limits")."""
LONGEST_MS = 6 * 3_600_000
"""The broker believes no more."""


class LoadPriors:
    """Reckons how long loads will take on one host."""

    def __init__(self) -> None:
        self._speeds: dict[int, float] = {}
        """By number of the device."""
        self._useless: set[Path] = set()
        """Files that told nothing."""

    def prior_ms(self, weights: Weights | None) -> int:
        """From order to ready, milliseconds; 0: nothing to go by."""
        if weights is None:
            return 0
        speed = self._speeds.get(weights.device, UNMEASURED)
        return min(round(1000 * (weights.start_s + weights.size_bytes / speed)), LONGEST_MS)

    def measure_one(self, found: Iterable[Weights], stop: Callable[[], bool]) -> None:
        """Measure one file system that was not measured yet, if there is one; takes a second.

        Args:
            found: Weights that lie on any.
            stop: Whether something is being loaded now; another call goes on from there.
        """
        unknown = (one for one in found if one.device not in self._speeds and one.largest not in self._useless)
        weights = next(unknown, None)
        if weights is None or stop():
            return
        try:
            speed = measure(weights.largest, stop)
        except OSError:
            self._useless.add(weights.largest)
            return
        if speed is not None:
            self._speeds[weights.device] = min(max(speed, SLOWEST), FASTEST)
