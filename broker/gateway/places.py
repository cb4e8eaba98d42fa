"""Places in line that outlive a request: a client that was sent away finds its own again.

Each request needs a lease of its own, though a session may have many at once; so each has its own *holder*, and the
store answers one live lease per session, model and holder. A holder is ``v1:<broker>:<fingerprint>:<number>``: the
fingerprint is of the API key and the body, the number the lowest that no open request of this broker uses. A client
that was sent away leaves its holder behind; when it comes back it gets that holder, and with it the stored ticket: the
place it had, or the lease that was granted meanwhile. Whose holder, in this order:

1. one left by the same API key, session, model and body: the one left first. Retries send the same bytes, so this is
   the client's own; requests alike in all of it are interchangeable, and come back in the order they were sent away;
2. for a client that names its session: one left by that session for the model whose client should have been back by
   now. A client that builds its retry anew comes when it was told to;
3. a new one. After a restart of the broker its holder is the old one again, as nothing in it is random.

No request takes over the place of another that is still expected back, so nobody's place gets worse by a request of the
same session. Brokers side by side have different names: they never share a lease by accident, and a client that is sent
to another broker starts at the end of the line.
"""

import hashlib
from collections import OrderedDict
from dataclasses import dataclass, field

import msgspec

SLACK_S = 0.5
"""A client may be this much early."""


class Seat(msgspec.Struct, frozen=True):
    """The holder of one open request."""

    who: str
    session: str
    model: str
    named: bool
    fingerprint: str
    number: int

    def holder(self, broker: str) -> str:
        """As the store takes it."""
        return f"v1:{broker}:{self.fingerprint}:{self.number}"


@dataclass(frozen=True, slots=True)
class _Left:
    seat: Seat
    back_s: float
    """When its client should be back."""
    kept_s: float
    """Until when the store may still know it."""


@dataclass(slots=True)
class Places:
    """The open and the left-behind requests of one process."""

    limit: int = 20_000
    """Left-behind places that are remembered; the oldest are forgotten first."""
    _open: set[Seat] = field(default_factory=set)
    _left: "OrderedDict[Seat, _Left]" = field(default_factory=OrderedDict)
    _by_asker: dict[tuple[str, str, str], dict[Seat, _Left]] = field(default_factory=dict)

    def take(self, wanted: Seat, now_s: float) -> Seat:
        """A seat for a request; ``wanted`` says everything but the number."""
        if self._left:
            seat = self._found(wanted, now_s) or self._new(wanted)
            self._forget(seat)
        else:
            seat = wanted if wanted.number == 0 and wanted not in self._open else self._new(wanted)
        self._open.add(seat)
        return seat

    def done(self, seat: Seat) -> None:
        """Its lease is given back."""
        self._open.discard(seat)

    def leave(self, seat: Seat, *, now_s: float, back_after_s: float, kept_s: float) -> None:
        """Its client is sent away and told to be back after ``back_after_s``."""
        self._open.discard(seat)
        left = _Left(seat, now_s + back_after_s - SLACK_S, now_s + kept_s)
        self._left[seat] = self._by_asker.setdefault(_asker(seat), {})[seat] = left
        if len(self._left) > self.limit:
            self._forget(next(iter(self._left)))

    def _found(self, wanted: Seat, now_s: float) -> Seat | None:
        alike = overdue = None
        for left in self._left_of(wanted, now_s):
            if left.seat.fingerprint == wanted.fingerprint:
                alike = alike or left.seat
            elif wanted.named and left.back_s <= now_s:
                overdue = overdue or left.seat
        return alike or overdue

    def _left_of(self, wanted: Seat, now_s: float) -> list[_Left]:
        while self._left and (oldest := next(iter(self._left.values()))).kept_s < now_s:
            self._forget(oldest.seat)
        return [left for left in self._by_asker.get(_asker(wanted), {}).values() if left.kept_s >= now_s]

    def _forget(self, seat: Seat) -> None:
        if self._left.pop(seat, None) is None:
            return
        of_asker = self._by_asker[_asker(seat)]
        del of_asker[seat]
        if not of_asker:
            del self._by_asker[_asker(seat)]

    def _new(self, wanted: Seat) -> Seat:
        number = 0
        while (seat := _numbered(wanted, number)) in self._open or seat in self._left:
            number += 1
        return seat


def _asker(seat: Seat) -> tuple[str, str, str]:
    return seat.who, seat.session, seat.model


def _numbered(seat: Seat, number: int) -> Seat:
    return Seat(seat.who, seat.session, seat.model, seat.named, seat.fingerprint, number)


def fingerprint(who: str, path: str, body: bytes) -> str:
    """What two requests must have in common to be taken for one that came back."""
    digest = hashlib.sha256(f"{who}\n{path}\n".encode())
    digest.update(body)
    return digest.hexdigest()[:20]
