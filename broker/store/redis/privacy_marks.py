"""Marks of private sessions in Redis or Valkey; see ``store.privacy_marks`` and ``lua/egress.lua``."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from broker.store.labels import to_ms
from broker.store.privacy_marks import Hearing, Known, Mark, SessionStanding, crowd_of
from broker.store.redis.codec import text
from broker.store.redis.link import Word

_Function = Callable[..., Awaitable[Any]]
"""Calls one function of the library: its name, then its arguments."""


class RedisSessionMarks:
    """The marks of one pool."""

    def __init__(self, function: _Function, reading: _Function) -> None:
        self._function = function
        self._reading = reading

    async def mark_private(self, session: Sequence[str], *, idle_s: float, limit: int, witness: str, told: str) -> str:
        """See the port."""
        idle_ms, marks = to_ms(idle_s, "private_idle"), _marks_of(session)
        return text(await self._function("mark_private", idle_ms, limit, witness, told, *marks))

    async def mark_again(self, marks: Sequence[Mark], *, idle_s: float, limit: int) -> str:
        """See the port."""
        words: list[Word] = [to_ms(idle_s, "private_idle"), limit]
        for one in marks:
            words += [one.mark, crowd_of(one.mark), to_ms(one.age_s, "age")]
        return text(await self._function("mark_again", *words))

    async def witness(self, witness: str, *, told: str, idle_s: float, others: Sequence[str]) -> Hearing:
        """See the port."""
        reply = await self._function("witness", witness, told, to_ms(idle_s, "private_idle"), *others)
        incarnation, *found = (text(word) for word in reply)
        told_by = {name: has_told == "1" for name, has_told in zip(found[::2], found[1::2], strict=True)}
        return Hearing(incarnation=incarnation, witnesses=told_by)

    async def bow_out(self, witness: str, *, told: str) -> None:
        """See the port."""
        await self._function("bow_out", witness, told)

    async def is_private(self, session: Sequence[str], *, idle_s: float) -> SessionStanding:
        """See the port."""
        reply = await self._reading("is_private", to_ms(idle_s, "private_idle"), *_marks_of(session))
        known, incarnation, since_ms = (text(word) for word in reply)
        return SessionStanding(known=Known(known), incarnation=incarnation, since_s=int(since_ms) / 1000)


def _marks_of(session: Sequence[str]) -> list[Word]:
    """Of each name its own mark, and the crowd's."""
    return [mark for name in session for mark in (name, crowd_of(name))]
