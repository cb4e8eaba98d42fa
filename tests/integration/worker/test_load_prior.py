"""A real worker says how long a load should take, from a real file on a real disk."""

import os

import pytest

from gpu_worker.drivers.load_prior import FASTEST, SLOWEST, UNMEASURED
from gpu_worker.drivers.process.weights import START_S
from tests.integration.worker.conftest import eventually

pytestmark = pytest.mark.redis
SIZE = 24 * 2**20


@pytest.fixture
def weights(tmp_path):
    file = tmp_path / "w.gguf"
    file.write_bytes(os.urandom(SIZE))
    return file


def between(slow, fast, size=SIZE):
    return round(1000 * (START_S + size / fast)), round(1000 * (START_S + size / slow))


def test_the_worker_tells_how_long_a_load_should_take_and_follows_the_file(workplace, hand, weights):
    workplace.fake("a", "--model", str(weights)).fake("plain").start()
    hand.register()
    low, high = between(SLOWEST, FASTEST)
    assert low <= int(hand.report()["prior_ms:a"]) <= high
    assert "prior_ms:plain" not in hand.report()
    unmeasured = between(UNMEASURED, UNMEASURED)[0]
    eventually(lambda: hand.report()["prior_ms:a"] != str(unmeasured), what="the disk being measured")
    measured = int(hand.report()["prior_ms:a"])
    assert low <= measured <= high
    with weights.open("r+b") as file:
        file.truncate(100 * SIZE)
    eventually(lambda: int(hand.report()["prior_ms:a"]) > measured, what="the prior of a larger file")
    weights.unlink()
    eventually(lambda: "prior_ms:a" not in hand.report(), what="no prior of what is gone")
    assert hand.report()["unsound:a"] == f"no such file: {weights}"


def test_no_disk_is_measured_while_a_load_runs(workplace, hand, weights):
    hidden = weights.rename(weights.with_name("hidden"))
    workplace.fake("a", "--never-ready", load_timeout_s=6.0).fake("b", "--model", str(weights)).start()
    hand.register()
    hand.load("a")
    hand.until("a", "loading")
    hidden.rename(weights)
    first = eventually(lambda: hand.report().get("prior_ms:b"), what="the file being seen")
    told = {first}
    eventually(lambda: told.add(hand.report()["prior_ms:b"]) or hand.report()["state:a"] == "failed", what="the end")
    assert told == {str(between(UNMEASURED, UNMEASURED)[0])}
    eventually(lambda: hand.report()["prior_ms:b"] != first, what="the disk being measured afterwards")
