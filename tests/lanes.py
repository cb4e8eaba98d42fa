"""The tests in lanes that run side by side: one that computes, one that waits for processes: ``python -m tests.lanes``.

What is not known here goes to pytest. Every line says whose it is; the counts of all lanes and their sum come last, and
the exit status is that of the worst. On one core there is one lane, and ``--also TARGET`` of ``make`` comes after it.
"""

import argparse
import os
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

TESTS = Path(__file__).parent
COMPUTING = ("contract", "property", "simulation", "unit")
"""Folders of tests that keep a core busy; in all others most of the time goes by in waiting for processes."""
WAITING = ("contract/drivers",)
"""Folders within those that wait for processes all the same."""
MOST = 4
"""Processes of one lane. Each starts servers of its own."""
NOTHING_COLLECTED = 5
COUNTED = re.compile(r"(\d+) (passed|failed|skipped|errors?|xfailed|walks)\b")
CLOSING = re.compile(r"^(?:=+ )?\d+ (?:passed|failed|skipped|deselected|errors?|xfailed|walks)\b.*(?: in [\d.]+s|=$)")


@dataclass
class Lane:
    """Programs one after another, and what came of them."""

    name: str
    programs: Sequence[Sequence[str]]
    statuses: list[int] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    took_s: float = 0.0
    enough: bool = False
    """Begin no other one."""

    def run(self, said: threading.Lock) -> None:
        """All of them, also after one that failed."""
        began_s = time.monotonic()
        for argv in self.programs:
            if self.enough:
                break
            with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
                for line in process.stdout or ():
                    self.counts += counted(line)
                    with said:
                        sys.stdout.write(f"{self.name:<9} | {line}")
                        sys.stdout.flush()
            self.statuses.append(process.returncode)
        self.took_s = time.monotonic() - began_s


def counted(line: str) -> Counter[str]:
    """What a closing line of pytest counts."""
    counts: Counter[str] = Counter()
    if CLOSING.search(line):
        for number, what in COUNTED.findall(line):
            counts[what] += int(number)
    return counts


def plan(cores: int, words: Sequence[str], also: Sequence[str]) -> list[Lane]:
    """Which lanes there are, and what each runs.

    Args:
        words: For pytest.
        also: Targets of ``make``, which wait for processes and are no pytest of ours.
    """
    pytest = (sys.executable, "-m", "pytest", *words)
    made = [("make", target, "ARGS=") for target in also]
    if cores <= 1:
        return [Lane("tests", [(*pytest, "-n", "0"), *made])]
    folders = sorted(each.name for each in TESTS.iterdir() if each.is_dir())
    computing = [f"--ignore={TESTS / name}" for name in (*folders, *WAITING) if name not in COMPUTING]
    waiting = [f"--ignore={path}" for name in COMPUTING for path in _without_waiting(TESTS / name)]
    lanes = [
        Lane("computing", [(*pytest, *computing, "-n", str(min(cores - 1, MOST)), "--dist", "worksteal")]),
        Lane("waiting", [(*pytest, *waiting, "-n", str(min(cores + 1, MOST)), "--dist", "worksteal")]),
    ]
    return [*lanes, Lane("besides", made)] if made else lanes


def _without_waiting(folder: Path) -> list[Path]:
    """Parts of a computing folder that hold nothing of the other lane."""
    kept = {TESTS / name for name in WAITING}
    if not any(folder in path.parents for path in kept):
        return [folder]
    shared = {folder / "conftest.py", folder / "__init__.py", folder / "__pycache__"}
    return [path for path in sorted(folder.iterdir()) if path not in kept | shared]


def worst(statuses: Iterable[int]) -> int:
    """Of all; a lane that had nothing to do is no failure, if another had."""
    known = set(statuses)
    return next(iter(sorted(known - {0, NOTHING_COLLECTED}, reverse=True)), 0 if 0 in known else NOTHING_COLLECTED)


def _join(threads: Iterable[threading.Thread]) -> None:
    for thread in threads:
        thread.join()


def told(counts: Counter[str]) -> str:
    """Counts as pytest tells them."""
    return ", ".join(f"{number} {what}" for what, number in sorted(counts.items())) or "no tests"


def main(words: Sequence[str]) -> int:
    """Run all lanes to their ends."""
    parser = argparse.ArgumentParser(prog="python -m tests.lanes", description=__doc__, allow_abbrev=False)
    parser.add_argument("--also", action="append", default=[], metavar="TARGET", help="of make; beside the tests")
    parser.add_argument("--cores", type=int, default=len(os.sched_getaffinity(0)), help="as if the machine had so many")
    chosen, others = parser.parse_known_args(words)
    lanes = plan(chosen.cores, others, chosen.also)
    said = threading.Lock()
    began_s = time.monotonic()
    threads = [threading.Thread(target=lane.run, args=(said,)) for lane in lanes]
    for thread in threads:
        thread.start()
    try:
        _join(threads)
    except KeyboardInterrupt:  # the programs have heard it too, and tell what they know so far
        for lane in lanes:
            lane.enough = True
        _join(threads)
    for lane in lanes:
        status = worst(lane.statuses)
        sys.stdout.write(f"{lane.name:<9} {told(lane.counts)} in {lane.took_s:.0f} s, exit status {status}\n")
    together: Counter[str] = sum((lane.counts for lane in lanes), Counter())
    sys.stdout.write(f"together  {told(together)} in {time.monotonic() - began_s:.0f} s\n")
    return worst(status for lane in lanes for status in lane.statuses)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
