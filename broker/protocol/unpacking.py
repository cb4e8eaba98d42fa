"""Compressed request bodies, unpacked: what is read, judged and sent on is always the plain body.

Rule: a few bytes may unpack to gigabytes, so no step makes more than is still allowed.
"""

import sys
import zlib
from collections.abc import Callable, Iterator

import brotli  # type: ignore[import-untyped]

from broker.protocol.errors import MalformedError, MediaTypeError, TooLargeError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MOST_CODINGS = 3
"""One on top of the other; a client has one."""
WINDOW_LOG = 23
"""8 MiB, what RFC 8878 asks decoders of zstd to support: memory that a header can make us take."""

PLAIN = frozenset({"", "identity"})


def codings_of(header: bytes) -> tuple[str, ...]:
    """What a body is packed with, the outermost last; empty where it is plain.

    Raises:
        MediaTypeError: Unknown, or too many.
    """
    words = header.decode("latin-1").lower().split(",") if header else ()
    codings = tuple(coding for word in words if (coding := word.strip()) not in PLAIN)
    if unknown := [coding for coding in codings if coding not in _UNPACKERS]:
        raise MediaTypeError(f"Content-Encoding {unknown[0]!r} is not known here; known: {', '.join(KNOWN)}")
    if len(codings) > MOST_CODINGS:
        raise MediaTypeError(f"a body may be packed {MOST_CODINGS} times at most")
    return codings


def unpacked(body: bytes, codings: tuple[str, ...], most: int) -> bytes:
    """The plain body.

    Args:
        body: As it arrived.
        codings: See ``codings_of``.
        most: Bytes that it may have, and that it may have on the way.

    Raises:
        MalformedError, TooLargeError
    """
    for coding in reversed(codings):
        try:
            body = _gathered(_UNPACKERS[coding](body, most), most)
        except (zlib.error, zstd.ZstdError, brotli.error, EOFError) as error:
            raise MalformedError(f"the body is not {coding}: {error}") from None
    return body


def _gathered(pieces: Iterator[bytes], most: int) -> bytes:
    found, size = [], 0
    for piece in pieces:
        size += len(piece)
        if size > most:
            raise TooLargeError(f"the body may have {most} bytes at most, unpacked")
        found.append(piece)
    return b"".join(found)


Unpacker = Callable[[bytes, int], Iterator[bytes]]
PIECE = 1024 * 1024


def _zlib(window_bits: int) -> Unpacker:
    def unpack(body: bytes, most: int) -> Iterator[bytes]:
        while body:  # gzip allows several members, one after the other
            stream = zlib.decompressobj(window_bits)
            while not stream.eof:
                piece = stream.decompress(body, min(PIECE, most + 1))
                body = stream.unconsumed_tail
                yield piece
                if not piece and not body and not stream.eof:
                    raise EOFError("it ends too early")
            body = stream.unused_data

    return unpack


def _deflate(body: bytes, most: int) -> Iterator[bytes]:
    """RFC 9110 means zlib's form; many send it without the head."""
    has_head = len(body) > 1 and body[0] & 0x0F == 8 and int.from_bytes(body[:2]) % 31 == 0
    return _zlib(15 if has_head else -15)(body, most)


def _zstd(body: bytes, most: int) -> Iterator[bytes]:
    while body:  # frames, one after the other
        stream = zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: WINDOW_LOG})
        while not stream.eof:
            piece = stream.decompress(body, min(PIECE, most + 1))
            body = b""
            yield piece
            if stream.needs_input and not stream.eof:
                raise EOFError("it ends too early")
        body = stream.unused_data


def _brotli(body: bytes, most: int) -> Iterator[bytes]:
    stream = brotli.Decompressor()
    while not stream.is_finished():
        piece: bytes = stream.process(body, output_buffer_limit=min(PIECE, most + 1))
        body = b""
        yield piece
        if not piece and not stream.is_finished():
            raise EOFError("it ends too early")


_UNPACKERS: dict[str, Unpacker] = {
    "gzip": _zlib(31),
    "x-gzip": _zlib(31),
    "deflate": _deflate,
    "br": _brotli,
    "zstd": _zstd,
}
KNOWN = ("gzip", "deflate", "br", "zstd", "identity")
