"""A benchmark that nobody runs in a while still runs: what it hands to the broker has to change with the broker."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_brokers_own_code_on_one_stream_can_be_timed():
    command = [sys.executable, "-m", "bench.v1_python", "--rounds", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("one stream: best "), done.stdout
