"""Compressed bodies: every coding, damaged ones, and a few bytes that would be gigabytes."""

import contextlib
import gzip
import tracemalloc
import zlib

import brotli
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.protocol.errors import MalformedError, MediaTypeError, TooLargeError
from broker.protocol.unpacking import codings_of, unpacked, zstd


def raw_deflate(body):
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(body) + packer.flush()


PACKERS = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
    "deflate, as many send it": raw_deflate,
    "br": brotli.compress,
    "zstd": zstd.compress,
}
MOST = 4 * 1024 * 1024


@pytest.mark.parametrize("header", [b"", b"identity", b"Identity", b" , identity", b"IDENTITY,"])
def test_what_changes_nothing_is_no_coding(header):
    assert codings_of(header) == ()


@pytest.mark.parametrize(
    "header, codings", [(b"GZip", ("gzip",)), (b"zstd, gzip", ("zstd", "gzip")), (b" br ", ("br",))]
)
def test_codings_are_read_in_any_case_and_order(header, codings):
    assert codings_of(header) == codings


@pytest.mark.parametrize("header", [b"compress", b"aws-chunked", b"gzip;q=1", b"\xff", b"gzip, gzip, gzip, gzip"])
def test_other_codings_are_refused_with_a_list_of_those_that_are_known(header):
    with pytest.raises(MediaTypeError, match=r"known: gzip, deflate, br, zstd|at most"):
        codings_of(header)


@pytest.mark.parametrize("name", PACKERS)
@given(body=st.binary(max_size=300).map(lambda some: some * 50))
def test_what_was_packed_comes_out_again(name, body):
    assert unpacked(PACKERS[name](body), (name.partition(",")[0],), MOST) == body


@pytest.mark.parametrize("name", ["gzip", "zstd"])
def test_parts_one_after_the_other_are_one_body(name):
    assert unpacked(PACKERS[name](b"one ") + PACKERS[name](b"two"), (name,), MOST) == b"one two"


def test_what_was_packed_twice_is_unpacked_twice():
    assert unpacked(gzip.compress(zstd.compress(b"x" * 99)), ("zstd", "gzip"), MOST) == b"x" * 99


@pytest.mark.parametrize("name", PACKERS)
def test_a_damaged_body_says_so(name):
    coding, sound = name.partition(",")[0], PACKERS[name](bytes(range(256)) * 40)
    for bad in (sound[:-3], sound[: len(sound) // 2], b"\x00" + sound, b"plain text", b"{"):
        with pytest.raises(MalformedError, match=f"is not {coding}"):
            unpacked(bad, (coding,), MOST)


@pytest.mark.parametrize("name", PACKERS)
@given(body=st.binary(max_size=200))
def test_no_bytes_make_it_fail_otherwise(name, body):
    with contextlib.suppress(MalformedError, TooLargeError):
        assert len(unpacked(body, (name.partition(",")[0],), 1000)) <= 1000


@pytest.mark.parametrize("name", PACKERS)
def test_a_body_that_grows_without_end_takes_no_more_memory_than_it_may(name):
    bomb = PACKERS[name](bytes(200_000_000))
    tracemalloc.start()
    with pytest.raises(TooLargeError, match="unpacked"):
        unpacked(bomb, (name.partition(",")[0],), MOST)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < MOST + 3 * 1024 * 1024 + len(bomb)


def test_a_bomb_inside_a_bomb_is_stopped_at_the_first():
    with pytest.raises(TooLargeError):
        unpacked(gzip.compress(gzip.compress(bytes(200_000_000))[:100_000] * 100), ("gzip", "gzip"), 50_000)


def test_a_window_larger_than_any_sound_one_is_refused():
    packed = zstd.compress(bytes(200_000_000), options={zstd.CompressionParameter.window_log: 27})
    with pytest.raises((MalformedError, TooLargeError)):
        unpacked(packed, ("zstd",), 10**9)
