"""The time of a load that never was: bytes over the measured speed of their disk, and a start; within bounds."""

import os

import pytest

from gpu_worker.drivers import load_prior
from gpu_worker.drivers.load_prior import FASTEST, LONGEST_MS, SLOWEST, UNMEASURED, LoadPriors
from gpu_worker.drivers.port import Weights
from gpu_worker.host.disk_speed import LEAST_BYTES, MOST_BYTES, measure


def never():
    return False


def weights(size_bytes=10**10, path="/w.gguf", device=1):
    return Weights(size_bytes=size_bytes, largest=path, device=device, start_s=2.0)


@pytest.fixture
def disk(monkeypatch):
    """A disk whose speed the test says; keeps what was read."""
    read = []

    def set_speed(speed):
        def measured(file, stop):
            read.append(file)
            if isinstance(speed, Exception):
                raise speed
            return speed

        monkeypatch.setattr(load_prior, "measure", measured)
        return read

    return set_speed


def test_a_disk_that_was_not_measured_is_an_ordinary_one():
    assert LoadPriors().prior_ms(weights()) == 2000 + 1000 * 10**10 // UNMEASURED
    assert LoadPriors().prior_ms(None) == 0


def test_each_file_system_is_measured_once_and_all_its_models_profit(disk):
    read, priors = disk(1e8), LoadPriors()
    found = [weights(path="/a"), weights(path="/b"), weights(path="/c", device=2)]
    for _ in range(5):
        priors.measure_one(found, never)
    assert read == ["/a", "/c"]
    assert [priors.prior_ms(one) for one in found] == [102_000] * 3


def test_what_is_measured_counts_within_bounds(disk):
    for speed, counted in ((1.0, SLOWEST), (1e12, FASTEST)):
        disk(speed)
        priors = LoadPriors()
        priors.measure_one([weights()], never)
        assert priors.prior_ms(weights()) == 2000 + 1000 * 10**10 // counted
    assert LoadPriors().prior_ms(weights(10**15)) == LONGEST_MS


def test_a_file_that_tells_nothing_is_not_read_again_and_another_one_is(disk):
    read, priors = disk(OSError("too small")), LoadPriors()
    for _ in range(3):
        priors.measure_one([weights(path="/a"), weights(path="/b")], never)
    assert read == ["/a", "/b"]


def test_nothing_is_measured_while_a_load_runs_but_after_it(disk):
    read, priors = disk(1e8), LoadPriors()
    priors.measure_one([weights()], lambda: True)
    assert read == []
    disk(None)
    priors.measure_one([weights()], never)
    assert priors.prior_ms(weights()) == 22_000, "a load broke it off"
    disk(1e8)
    priors.measure_one([weights()], never)
    assert priors.prior_ms(weights()) == 102_000


@pytest.mark.parametrize("folder", ["/dev/shm", None])
def test_a_real_file_is_read_in_part_and_what_it_says_is_a_speed(tmp_path, folder):
    file = (tmp_path if folder is None else type(tmp_path)(folder)) / f"hotseat-{os.getpid()}.gguf"
    try:
        with file.open("wb") as out:
            out.write(os.urandom(LEAST_BYTES) * 2)
            out.truncate(2 * MOST_BYTES)
        asked = []
        assert measure(file, lambda: bool(asked.append(1))) > 0
        assert len(asked) <= MOST_BYTES // 2**20
        assert measure(file, lambda: True) is None
    finally:
        file.unlink()


def test_a_small_file_and_none_at_all_tell_nothing(tmp_path):
    (tmp_path / "small").write_bytes(b"x" * 1000)
    for name in ("small", "none"):
        with pytest.raises(OSError, match=r"too small|No such file"):
            measure(tmp_path / name, never)
