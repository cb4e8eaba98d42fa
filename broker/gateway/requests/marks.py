"""Which sessions are private, as far as this process and the store know; and what is done so that none is forgotten.

Rule: nothing leaves in a session of which nobody can say whether it was private. A process tells the store every mark
it makes, and tells all of them again in every new incarnation of the store, before anything of its own leaves: the
store may have been replaced by a copy that was behind. Until everybody has told who may know something, only a session
leaves that provably began after the change: its id bears the time at which it was made.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from broker.core.errors import HotseatError
from broker.routing.privacy.sessions import OWNER_LETTERS, PrivateSessions, made_unix_s, one_session
from broker.store.labels import text_hash
from broker.store.port import Event
from broker.store.privacy_marks import Hearing, Known, Mark, SessionMarks, SessionStanding

log = logging.getLogger("hotseat.gateway")

BEAT_S = 2.0
"""How often a process says that it is there, seconds; others wait for it in a new incarnation."""
WARN_BEATS = 5
"""After so many beats without a process the log says that it is missing."""
AT_ONCE = 500
"""How many marks are told to the store in one call."""
MOST_OTHERS = 256
"""How many other processes one names to a new incarnation."""
SKEW_S = 300.0
"""How much later than the change, by its own clock, a session must have begun, seconds."""
_NEW_LIFE = frozenset({"recovered", "initialised"})


SessionNames = Sequence[str]
"""All names that a session may have; if one of them is private, the session is."""


@dataclass(slots=True, kw_only=True)
class PrivacyMarks:
    """The private sessions that one broker process knows of, and its part in keeping them known."""

    store: SessionMarks
    sessions: PrivateSessions
    name: str
    """Name of this process; no other one ever has it."""
    idle_s: float
    limit: int
    unix_s: Callable[[], float] = time.time
    _told: str = ""
    """The incarnation of the store in which all marks were told; empty: none yet."""
    _hearing: Hearing | None = None
    _missed: int = 0
    """How many beats in a row somebody was missing."""
    _ended: bool = False
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _telling: asyncio.Lock = field(default_factory=asyncio.Lock)

    def is_known(self, session: SessionNames) -> bool:
        """Tell whether the session is private in this process's memory."""
        return any(self.sessions.is_private(key, _now_s()) for key in _keys(session))

    async def is_private(self, session: SessionNames) -> bool | None:
        """Tell whether the session is private, by this process's memory or the store's; None: nobody can say."""
        if self.is_known(session):
            return True
        try:
            standing = await self.store.is_private(_keys(session), idle_s=self.idle_s)
            if standing.incarnation != self._told:
                await self._tell_again(standing.incarnation)
                standing = await self.store.is_private(_keys(session), idle_s=self.idle_s)
        except HotseatError as error:
            log.warning("privacy_unknown", extra={"reason": error.code})
            return None
        if standing.known is Known.UNSETTLED and not self._is_newer(session, standing):
            self._wake.set()
            return None
        return standing.known is Known.PRIVATE

    def _is_newer(self, session: SessionNames, standing: SessionStanding) -> bool:
        """Tell whether it provably began after the store changed hands, so that no mark of it can have been lost."""
        now_s = self.unix_s()
        made_s = [made_unix_s(name) for name in session]
        return all(made is not None and now_s - standing.since_s + SKEW_S < made <= now_s for made in made_s)

    async def mark(self, session: SessionNames) -> None:
        """Mark the session as private from now on.

        Raises:
            StoreUnavailableError: The store could not take the mark.
        """
        for key in _keys(session):
            self.sessions.mark(key, _now_s())
        incarnation = await self.store.mark_private(
            _keys(session), idle_s=self.idle_s, limit=self.limit, witness=self.name, told=self._told
        )
        if incarnation != self._told:
            self._wake.set()

    # ---------------------------------------------------------------------------------------------------- the witness
    async def beat(self) -> Hearing:
        """Say that this process is there, and listen who else is.

        Raises:
            StoreUnavailableError
        """
        hearing = await self._say(self._told, ())
        if hearing.incarnation != self._told:
            await self._tell_again(hearing.incarnation)
        else:
            self._hearing = hearing
        return self._hearing or hearing

    async def step(self) -> None:
        """Say that this process is there; where the store has changed hands tell all marks again. Then wait.

        Raises:
            StoreUnavailableError
        """
        self._wake.clear()
        if not self._ended:
            self._warn(await self.beat())
        try:
            async with asyncio.timeout(BEAT_S):
                await self._wake.wait()
        except TimeoutError:
            pass

    def note(self, event: Event) -> None:
        """Take in one event of the store's stream: all marks are told at once to a store that changed hands."""
        if event.kind in _NEW_LIFE:
            self._wake.set()

    async def _tell_again(self, seen: str) -> None:
        """Tell every mark, and which others one knew of; if the incarnation changes meanwhile, it begins anew."""
        async with self._telling:
            former = () if self._hearing is None else tuple(self._hearing.witnesses)[:MOST_OTHERS]
            while self._told != seen:
                marks = [Mark(mark=mark, age_s=age_s) for mark, age_s in self.sessions.marks(_now_s())]
                told = {
                    await self.store.mark_again(marks[at : at + AT_ONCE], idle_s=self.idle_s, limit=self.limit)
                    for at in range(0, max(len(marks), 1), AT_ONCE)
                }
                self._hearing = hearing = await self._say(seen if told == {seen} else "", former)
                if told == {hearing.incarnation} == {seen}:
                    self._told = seen
                    log.info("private_marks_told", extra={"marks": len(marks), "incarnation": seen})
                seen = hearing.incarnation

    async def _say(self, told: str, others: Sequence[str]) -> Hearing:
        return await self.store.witness(self.name, told=told, idle_s=self.idle_s, others=others)

    def _warn(self, hearing: Hearing) -> None:
        """Log once for whom everybody waits."""
        missing = sorted(name for name, told in hearing.witnesses.items() if not told and name != self.name)
        self._missed = self._missed + 1 if missing else 0
        if self._missed == WARN_BEATS:
            detail = "until these brokers are back, or private_idle_s is over, only sessions leave that began since"
            log.warning("private_marks_missing", extra={"brokers": missing[:8], "detail": detail})

    async def close(self) -> None:
        """Say that the process ends; whoever comes next need not wait for it."""
        self._ended = True
        try:
            if self._told:
                await self.store.bow_out(self.name, told=self._told)
        except HotseatError as error:
            log.warning("bow_out_failed", extra={"reason": error.code})


def marks_of(store: SessionMarks, name: str, *, idle_s: float, limit: int) -> PrivacyMarks:
    """Make the marks of a process that knows of none yet."""
    sessions = PrivateSessions(limit=limit, idle_s=idle_s)
    return PrivacyMarks(store=store, sessions=sessions, name=name, idle_s=idle_s, limit=limit)


def _keys(session: SessionNames) -> list[str]:
    return list(dict.fromkeys(_key(one_session(name)) for name in session))


def _key(name: str) -> str:
    """Put whose it is in front: beyond the limit sessions of the same API key share a mark."""
    return text_hash(name.partition("|")[0])[:OWNER_LETTERS] + text_hash(name)


def _now_s() -> float:
    return asyncio.get_running_loop().time()
