"""Marks of private sessions in this process's memory; see ``store.privacy_marks``."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from broker.store.labels import to_ms
from broker.store.privacy_marks import FIRST_S, SILENT_S, Hearing, Known, Mark, SessionStanding, crowd_of


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreLife:
    """Which incarnation of the store this is, and since when."""

    incarnation: str
    number: int
    """Of the incarnation, from 1."""
    changed: bool
    """Another server is there, and nobody has written to it yet."""
    wall_ms: int


@dataclass(slots=True)
class _Heard:
    incarnation: str
    at_ms: int


class MemorySessionMarks:
    """The marks of one pool."""

    def __init__(self, now_ms: Callable[[], int], life: Callable[[], StoreLife], begin: Callable[[], None]) -> None:
        """``now_ms`` is the pool's logical clock, ``begin`` the prologue of whatever writes."""
        self._now_ms = now_ms
        self._life = life
        self._begin = begin
        self._private: dict[str, int] = {}
        self._witnesses: dict[str, _Heard] = {}

    def flush(self) -> None:
        """Lose everything."""
        self._private.clear()
        self._witnesses.clear()

    async def mark_private(self, session: Sequence[str], *, idle_s: float, limit: int, witness: str, told: str) -> str:
        """See the port."""
        self._begin()
        now_ms, idle_ms = self._now_ms(), to_ms(idle_s, "private_idle")
        self._private = {mark: at_ms for mark, at_ms in self._private.items() if now_ms - at_ms < idle_ms}
        for name in session:
            self._mark_at(name, now_ms, limit)
        self._hear(witness, told)
        return self._life().incarnation

    async def mark_again(self, marks: Sequence[Mark], *, idle_s: float, limit: int) -> str:
        """See the port."""
        self._begin()
        now_ms, idle_ms = self._now_ms(), to_ms(idle_s, "private_idle")
        for one in marks:
            age_ms = to_ms(one.age_s, "age")
            if age_ms < idle_ms:
                self._mark_at(one.mark, now_ms - age_ms, limit)
        return self._life().incarnation

    async def witness(self, witness: str, *, told: str, idle_s: float, others: Sequence[str]) -> Hearing:
        """See the port."""
        self._begin()
        self._hear(witness, told)
        for other in others:
            if other not in self._witnesses:
                self._hear(other, "")
        life, now_ms, idle_ms = self._life(), self._now_ms(), to_ms(idle_s, "private_idle")
        for name, heard in list(self._witnesses.items()):
            has_told = heard.incarnation == life.incarnation
            if now_ms - heard.at_ms >= (SILENT_S * 1000 if has_told else idle_ms):
                del self._witnesses[name]
        told_by = {name: heard.incarnation == life.incarnation for name, heard in sorted(self._witnesses.items())}
        return Hearing(incarnation=life.incarnation, witnesses=told_by)

    async def bow_out(self, witness: str, *, told: str) -> None:
        """See the port."""
        self._begin()
        if told == self._life().incarnation:
            self._witnesses.pop(witness, None)

    async def is_private(self, session: Sequence[str], *, idle_s: float) -> SessionStanding:
        """See the port."""
        now_ms, idle_ms, life = self._now_ms(), to_ms(idle_s, "private_idle"), self._life()
        marks = [mark for name in session for mark in (name, crowd_of(name))]
        marked = [self._private[mark] for mark in marks if mark in self._private]
        since_ms = max(life.wall_ms - int(life.incarnation.rpartition("-")[2]), 0)
        known = Known.CLEAR
        if any(now_ms - at_ms < idle_ms for at_ms in marked):
            known = Known.PRIVATE
        elif life.changed or (since_ms < FIRST_S * 1000 and life.number > 1) or self._is_one_missing(idle_ms):
            known = Known.UNSETTLED
        return SessionStanding(known=known, incarnation=life.incarnation, since_s=since_ms / 1000)

    def _is_one_missing(self, idle_ms: int) -> bool:
        now_ms, incarnation = self._now_ms(), self._life().incarnation
        return any(
            heard.incarnation != incarnation and now_ms - heard.at_ms < idle_ms for heard in self._witnesses.values()
        )

    def _mark_at(self, mark: str, at_ms: int, limit: int) -> None:
        kept = mark if mark in self._private or len(self._private) < limit else crowd_of(mark)
        self._private[kept] = max(at_ms, self._private.get(kept, at_ms))

    def _hear(self, witness: str, told: str) -> None:
        incarnation = self._life().incarnation
        self._witnesses[witness] = _Heard(told if told == incarnation else "", self._now_ms())
