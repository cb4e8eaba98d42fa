"""The high-water mark, the slot's lock, the bounded log."""

import os

import pytest

from gpu_worker.host.durable import RingLog
from gpu_worker.slot.high_water import HighWater
from gpu_worker.slot.lock import SlotLock, SlotTakenError


def test_a_mark_is_found_again_and_never_falls(tmp_path):
    mark = HighWater(tmp_path)
    mark.raise_to(9)
    mark.raise_to(4)
    assert HighWater(tmp_path).generation == 9
    assert [path.name for path in tmp_path.iterdir()] == ["high_water"]


@pytest.mark.parametrize("torn", [b"", b"12", b"-3\n", b"x\n", b"1\n2\n", b"9" * 40 + b"\n"])
def test_a_torn_mark_is_set_aside(tmp_path, torn):
    (tmp_path / "high_water").write_bytes(torn)
    mark = HighWater(tmp_path)
    assert mark.broken
    assert mark.generation == 0
    assert (tmp_path / "high_water.broken").read_bytes() == torn


def test_a_mark_that_cannot_be_written_is_an_error(tmp_path):
    mark = HighWater(tmp_path / "slot")
    (tmp_path / "slot").rmdir()
    with pytest.raises(OSError, match="No such file"):
        mark.raise_to(1)
    assert mark.generation == 0


def test_the_second_lock_names_the_first(tmp_path):
    first = SlotLock(tmp_path, "gpu0")
    with pytest.raises(SlotTakenError, match=f"pid {os.getpid()}"):
        SlotLock(tmp_path, "gpu0")
    first.release()
    SlotLock(tmp_path, "gpu0").release()


def test_the_log_keeps_the_newest_and_stays_bounded(tmp_path):
    descriptor = os.open(tmp_path, os.O_RDONLY)
    log = RingLog(descriptor, 10_000)
    for number in range(1000):
        log.write(b"%04d" % number * 10)
    os.close(descriptor)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 10_000
    assert (tmp_path / "server.log").read_bytes().endswith(b"0999")
