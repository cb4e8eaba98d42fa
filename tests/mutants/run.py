"""Make each mistake of the catalogue in a copy of the tree: the tests that are there for it must fail.

``python tests/mutants/run.py [name part …]``; a survivor fails the run, and so does a test that fails unmutated.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import fakeredis
import redis

ROOT = Path(__file__).resolve().parents[2]
COPIED = (
    "broker",
    "docs",
    "schemas",
    "tests",
    "gpu_worker",
    "hotseat",
    "simulator",
    "harness",
    "bench",
    "pyproject.toml",
)
TIME_LIMIT_S = 120
sys.path.insert(0, str(ROOT))

from broker.store.redis.lua_library import FILES  # noqa: E402  this file is run as a script
from tests.mutants.catalogue import MUTANTS, Mutant  # noqa: E402


def copy_tree(target: Path) -> None:
    """What the tests need, without caches."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=shutil.ignore_patterns("__pycache__", "node_modules", "*.so"))
        elif source.exists():
            shutil.copy(source, target / name)


def tests_pass(tree: Path, tests: Sequence[str]) -> bool:
    """Run pytest in the copy; a time-out counts as a failure."""
    argv = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--no-header", *tests]
    environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(argv, cwd=tree, env=environment, capture_output=True, timeout=TIME_LIMIT_S, check=False)
    except subprocess.TimeoutExpired:
        return False
    if done.returncode not in {0, 1}:  # 5: no test was selected; others: pytest itself failed
        sys.exit(f"pytest {' '.join(tests)} ended with {done.returncode}:\n{done.stdout.decode()[-2000:]}")
    return done.returncode == 0


def library_loads(tree: Path) -> bool:
    """Is the library still Lua?"""
    folder = tree / "broker/store/redis/lua"
    text = "\n".join(["#!lua name=hotseat1", *((folder / f"{name}.lua").read_text() for name in FILES)])
    try:
        fakeredis.FakeRedis().execute_command("FUNCTION", "LOAD", "REPLACE", text)
    except redis.ResponseError:
        return False
    return True


def survives(tree: Path, mutant: Mutant) -> bool:
    """Make the mistake, run its tests, take it back."""
    path = tree / mutant.file
    before = path.read_text()
    if before.count(mutant.old) != 1:
        sys.exit(f"{mutant.name}: {mutant.old!r} occurs {before.count(mutant.old)} times in {mutant.file}")
    path.write_text(before.replace(mutant.old, mutant.new))
    try:
        if path.suffix == ".lua" and not library_loads(tree):
            sys.exit(f"{mutant.name}: not a mistake but nonsense, the library does not load")
        return tests_pass(tree, mutant.tests)
    finally:
        path.write_text(before)


def say(line: str) -> None:
    """One line, at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main(parts: Sequence[str]) -> int:
    """Run the chosen mutants; print a table."""
    chosen = [mutant for mutant in MUTANTS if not parts or any(part in mutant.name for part in parts)]
    with tempfile.TemporaryDirectory(prefix="hotseat-mutants-") as folder:
        tree = Path(folder)
        copy_tree(tree)
        began = time.monotonic()
        for tests in dict.fromkeys(mutant.tests for mutant in chosen):
            if not tests_pass(tree, tests):
                say(f"fails without any mutant: pytest {' '.join(tests)}")
                return 1
        left = 0
        for number, mutant in enumerate(chosen, start=1):
            start = time.monotonic()
            alive = survives(tree, mutant)
            left += alive
            word = "SURVIVED" if alive else "killed"
            say(f"{number:3} {word:9} {time.monotonic() - start:5.1f} s  {mutant.file:32} {mutant.name}")
    say(f"{len(chosen) - left} of {len(chosen)} mutants killed in {time.monotonic() - began:.0f} s")
    return 1 if left or not chosen else 0


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("parts", nargs="*", help="parts of names; all mutants without")
    sys.exit(main(arguments.parse_args().parts))
