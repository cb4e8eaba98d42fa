"""A driver moves in with one file and one line; a slot holds models of both: a real worker of a copy of the tree."""

import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from schemas.config.drivers import DRIVERS
from tests.contract.test_floors import house, lint
from tests.fakes.drivers import newcomer
from tests.integration.worker.conftest import FAKE, ROOT, eventually

__all__ = ["house"]
BROKER = "[broker]\nanonymous = true\n"


@pytest.fixture
def copy(house, tmp_path):
    """A copy of the tree with one driver more."""
    folder = tmp_path / "house"
    shutil.copytree(house, folder)
    newcomer.move_in(folder)
    return folder


@pytest.fixture
def server():
    """A model server that is there before its load."""
    argv = [sys.executable, "-S", "-E", str(FAKE), "--port", "0", "--alias", "b", "--any-key", "--tell-port"]
    process = subprocess.Popen([*argv, "--sleep-delay", "0", "--footprint", "700"], stdout=subprocess.PIPE)
    yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    process.kill()
    process.communicate()


def read_by_broker(folder, config):
    program = "import sys, pathlib; from broker.config.broker_config import load_config"
    program += "; load_config(pathlib.Path(sys.argv[1]), {})"
    return subprocess.run(
        [sys.executable, "-c", program, str(config)], cwd=folder, capture_output=True, text=True, check=False
    )


def test_one_file_and_one_line_are_a_driver_that_stands_on_its_floor(copy, house):
    changed = subprocess.run(
        ["diff", "--recursive", "--new-file", "--unified=0", house, copy], capture_output=True, text=True, check=False
    ).stdout
    parts = changed.split("diff --recursive")[1:]
    assert [Path(part.splitlines()[0].split()[-1]).name for part in parts] == ["attach.py", "drivers.py"]
    assert [line for line in parts[1].splitlines()[3:] if line[0] in "+-"] == ['+    "attach",']
    code, said = lint(copy)
    assert code == 0, said


@pytest.mark.redis
def test_models_of_two_drivers_share_a_slot(copy, workplace, hand, server):
    workplace.root = copy
    workplace.slot["budget_mib"] = 1500
    workplace.fake("a")
    workplace.models.append({"name": "b", "memory_mib": 700, "driver": "attach", "attach": {"url": server}})
    workplace.start()
    hand.register()
    hand.load("a", "b")
    hand.until("a", "ready")
    report = hand.until("b", "ready")
    assert report["serves"] == "a b"
    assert report["url:b"] == f"{server}/v1"
    assert report["url:a"].startswith("http://127.0.0.1:")
    eventually(lambda: hand.report()["mib:b"] == "700", what="what the driver tells of its footprint in the report")
    hand.load("a")
    hand.until_absent("b")
    assert urllib.request.urlopen(f"{server}/health", timeout=5).status == 200, "it is not ours to end"
    hand.load("b")
    hand.until_absent("a")
    hand.until("b", "ready")
    assert workplace.server_pids() == set()


@pytest.mark.redis
def test_a_driver_whose_server_is_away_says_so_as_any_other(copy, workplace, hand):
    workplace.root = copy
    workplace.models.append(
        {"name": "b", "memory_mib": 700, "driver": "attach", "attach": {"url": "http://127.0.0.1:9"}}
    )
    workplace.start()
    hand.register()
    hand.load("b")
    report = hand.until("b", "failed")
    assert report["error:b"].startswith("nobody answers at http://127.0.0.1:9")
    assert report["failure:b"] == "host"


def test_the_broker_knows_the_new_driver_by_the_same_line(copy, workplace):
    workplace.models.append({"name": "b", "memory_mib": 700, "driver": "attach", "attach": {"url": "http://box:1"}})
    config = workplace.config()
    config.write_text(BROKER + config.read_text())
    assert (done := read_by_broker(copy, config)).returncode == 0, done.stderr
    assert f"no driver 'attach'; there is {', '.join(sorted(DRIVERS))}" in read_by_broker(ROOT, config).stderr
