"""What a server says of its refusal, where that is quoted and not passed on."""

import asyncio
import contextlib
from typing import Protocol

from broker.answers.said import said_by
from broker.http_client.errors import ServerError

WORDS_S = 2.0
"""They are worth no long wait."""
MAX_WORDS = 8 * 1024
"""Bytes that are read."""


class Readable(Protocol):
    """See ``broker.http_client.answer``."""

    async def read(self, timeout_s: float) -> bytes:
        """The next piece; nothing at the end."""


async def words_of(answer: Readable, secret: str) -> str:
    """As far as they come soon; empty: there are none.

    Args:
        answer: Its status is no success.
        secret: The key that the server was asked with, which some repeat; it is taken out.
    """
    body = b""
    with contextlib.suppress(TimeoutError, ServerError):
        async with asyncio.timeout(WORDS_S):
            while len(body) < MAX_WORDS and (piece := await answer.read(WORDS_S)):
                body += piece
    message = said_by(body).message
    return message.replace(secret, "…") if secret else message


def quoted(words: str) -> str:
    """For the end of a message."""
    return f": {words}" if words else ""
