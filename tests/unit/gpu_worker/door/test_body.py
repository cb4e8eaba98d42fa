"""Where a body ends, however its bytes are cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_worker.door.body import Chunked, Sized, body_reader
from gpu_worker.door.head import CHUNKED, UnpassableError


def taken(body, data, cuts):
    """How many bytes it calls its own when they come in pieces."""
    ends = sorted({min(cut, len(data)) for cut in cuts} | {len(data)})
    begin = total = 0
    for end in ends:
        own = body.take(data[begin:end])
        total += own
        if body.done:
            break
        assert own == end - begin
        begin = end
    return total


@given(st.integers(0, 50), st.binary(max_size=80), st.lists(st.integers(0, 80)))
def test_a_sized_body_ends_after_its_size(length, data, cuts):
    body = Sized(length)
    assert taken(body, data, cuts) == min(length, len(data))
    assert body.done == (len(data) >= length)


chunks = st.lists(st.binary(min_size=1, max_size=30), max_size=5)
trailers = st.lists(st.sampled_from([b"A: b\r\n", b"X-Sum:\r\n"]), max_size=3)
extensions = st.sampled_from([b"", b";a=b", b' ; q="x"'])


@given(chunks, trailers, extensions, st.binary(max_size=20), st.lists(st.integers(0, 300)))
def test_a_chunked_body_ends_after_its_trailers(pieces, ends, extension, behind, cuts):
    data = b"".join(b"%x%s\r\n%s\r\n" % (len(piece), extension, piece) for piece in pieces)
    data += b"0" + extension + b"\r\n" + b"".join(ends) + b"\r\n"
    body = Chunked()
    assert taken(body, data + behind, cuts) == len(data)
    assert body.done


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n", b"x\r\n", b"0x1\r\na\r\n", b"-1\r\n", b"+1\r\na\r\n", b"1 \r\n", b"1\na\n", b"1\r\nab", b"1\r\na\n",
        b"1;\x00\r\n", b"0\r\nno trailer\r\n", b"0\n\n", b"0" * 16 + b"1\r\n", b"1;" + b"a" * 5000, b"f" * 16 + b"\r\n",
        b"0\r\n" + b"A: " + b"b" * 4000 + b"\r\n" + b"0: 1\r\n" * 4000,
    ],
)  # fmt: skip
def test_what_parsers_read_differently_is_refused(data):
    with pytest.raises(UnpassableError):
        taken(Chunked(), data + b"\r\n\r\n", range(len(data)))


def test_the_head_says_which():
    assert isinstance(body_reader(CHUNKED), Chunked)
    assert body_reader(0).done
