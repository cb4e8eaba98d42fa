"""The floors hold: each leak that they are there to stop is seen, and the tree as it is has none."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("hotseat", "broker", "gpu_worker", "hooks", "schemas", "simulator", "harness", "bench")
FULL = 16
"""Files in one folder. More of them are no longer seen at a glance."""
MEASURE = {"integration/test_fairness.py", "integration/gateway/test_fairness.py"}
"""Tests that run a benchmark's measure."""
TWO_AT_ONCE = "No cycles between siblings"


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    """A copy of the tree that a test may spoil."""
    copy = tmp_path_factory.mktemp("house")
    shutil.copy(ROOT / "pyproject.toml", copy)
    for package in PACKAGES:
        leave = shutil.ignore_patterns("__pycache__", "node_modules", "plugin", "dist", "json")
        shutil.copytree(ROOT / package, copy / package, ignore=leave)
    return copy


def lint(house):
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    done = subprocess.run(command, cwd=house, capture_output=True, text=True, check=False)
    return done.returncode, " ".join(done.stdout.split())


def test_the_tree_stands_on_its_floors(house):
    code, said = lint(house)
    assert code == 0, said


@pytest.mark.parametrize(
    "where, line, contract",
    [
        ("broker/policy/board.py", "import broker.pool.machine", "Broker floors"),
        ("broker/policy/wait_reasons.py", "from broker.access.principals import Principal", "Broker floors"),
        ("broker/pool/records/rows.py", "from broker.policy.settings import PolicySettings", "Broker floors"),
        ("broker/store/memory/days.py", "import broker.store.redis.wire", "The stores know their port"),
        ("gpu_worker/drivers/other.py", "from gpu_worker.drivers.process import server", "Drivers know their port"),
        ("gpu_worker/drivers/other/server.py", "import gpu_worker.drivers.process.server", "Drivers know their port"),
        ("gpu_worker/slot/residency.py", "import gpu_worker.drivers.process.server", "Nobody knows a driver"),
        ("broker/attic.py", "", "Broker floors"),
        ("gpu_worker/attic.py", "", "Worker floors"),
        ("broker/gateway/attic.py", "", "Gateway floors"),
        ("broker/core/lease.py", "import broker.core.snapshot", TWO_AT_ONCE),
        ("broker/policy/switchover.py", "import time", "The cores are pure"),
        ("broker/core/slot.py", "import schemas.messages", "The cores are pure"),
        ("schemas/residency.py", "import time", "What the cores share with the messages is pure"),
        ("broker/gateway/trust/deaths.py", "import asyncio", "Judging answers is pure"),
        ("broker/leasing/service.py", "import redis", "Only the store adapters speak Redis"),
        ("broker/leasing/service.py", "import harness.worker", "The house"),
        ("hotseat/cli.py", "import simulator.world", "The house"),
        ("simulator/world.py", "import bench.poller", "The house"),
        ("harness/stack.py", "from bench.poller import PERIODS", "The house"),
        ("harness/openclaw/scene.py", "import tests.searching", "Nobody imports tests"),
        ("bench/poller.py", "from tests.fakes.wire import cut_at", "Nobody imports tests"),
    ],
)
def test_a_leak_is_seen(house, where, line, contract):
    path = house / where
    before = path.read_text() if path.exists() else None
    made = not path.parent.exists()
    path.parent.mkdir(exist_ok=True)
    if made:
        (path.parent / "__init__.py").write_text("")
    path.write_text(f"{before or ''}\n{line}\n")
    try:
        code, said = lint(house)
    finally:
        if made:
            shutil.rmtree(path.parent)
        elif before is None:
            path.unlink()
        else:
            path.write_text(before)
    assert code != 0
    broken = said[said.rindex("Broken contracts") :]
    assert contract in broken, broken


def test_only_tests_of_a_benchmark_import_it():
    importing = set()
    for path in (ROOT / "tests").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [name.name for name in node.names] if isinstance(node, ast.Import) else []
            if any(name.partition(".")[0] == "bench" for name in names):
                importing.add(str(path.relative_to(ROOT / "tests")))
    assert importing == MEASURE


def test_no_folder_is_too_full_to_see():
    listed = subprocess.run(["git", "ls-files", *PACKAGES], cwd=ROOT, capture_output=True, text=True, check=True)
    full = {}
    for name in listed.stdout.split():
        path = Path(name)
        is_source = path.suffix in {".py", ".lua", ".ts"} and not path.name.endswith(".test.ts")
        if is_source and path.name != "__init__.py":
            full.setdefault(path.parent, []).append(path.name)
    assert not {str(folder): len(names) for folder, names in full.items() if len(names) > FULL}
