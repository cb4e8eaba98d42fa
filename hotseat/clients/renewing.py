"""Keeps a lease alive while a job runs, and tells at once when it is asked back or is over.

Rules:

1. It is renewed at a third of its TTL. While no broker answers renewing goes on, every second, until the lease's own
   end: then it is over, for another broker may have given the model away.
2. The lease's events are followed beside that, for a grace can be shorter than the next renewal is far.
"""

import threading
import time
from contextlib import suppress
from dataclasses import dataclass, replace

from hotseat.clients.http_api import ANSWER_S, BrokerError, Client, segment
from hotseat.clients.waiting import LeaseJson
from hotseat.terminal.inbox import Inbox

RETRY_S = 1.0
FOLLOW_PAUSE_S = 1.0
LEAST_ANSWER_S = 1.0

ENDED = frozenset({"not_found", "stale_nonce", "lease_ended"})
"""Codes by which a broker says that a lease is over; a proxy's 404 says nothing of it."""
WORDS = {
    "expired": "it was not renewed in time",
    "preempted": "it was asked back, and its grace is over",
    "revoked": "an operator took it back",
    "lost": "the model was lost",
    "released": "somebody gave it back",
}
"""What to tell a person, by the first word of an ended lease's reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedBack:
    """Others wait: the lease ends in a while, whatever its holder does."""

    within_s: float
    reason: str


@dataclass(frozen=True, slots=True)
class Over:
    """The lease is over, however it ended."""

    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Away:
    """No broker answers, so the lease cannot be renewed now."""

    error: str
    left_s: float
    """How long the lease still lives, seconds."""


@dataclass(frozen=True, slots=True)
class Back:
    """A broker answers again, and the lease was renewed."""


class Renewing:
    """Renews one lease. What becomes of it is put into the inbox, each thing once."""

    def __init__(self, client: Client, held: LeaseJson, ttl_s: float, inbox: Inbox) -> None:
        """Begin to renew and to follow the lease, in two threads."""
        self._client, self._held, self._ttl_s, self._inbox = client, held, ttl_s, inbox
        self._ends_s = time.monotonic() + held["expiresInSeconds"]
        self._done = threading.Event()
        self._telling = threading.Lock()
        self._asked_back = False
        for work in (self._renew, self._follow):
            threading.Thread(target=work, name=work.__name__, daemon=True).start()

    def stop(self) -> None:
        """End the renewals; no more news is put into the inbox."""
        self._done.set()

    def _renew(self) -> None:
        away, pause_s = False, self._ttl_s / 3
        while not self._done.wait(pause_s):
            error = self._try()
            pause_s = min(RETRY_S, self._ttl_s / 6) if error else self._ttl_s / 3
            if error and not away:
                self._inbox.put(Away(error=error.brief, left_s=max(0.0, self._ends_s - time.monotonic())))
            elif away and not error and not self._done.is_set():
                self._inbox.put(Back())
            away = error is not None
            if error and time.monotonic() >= self._ends_s:
                self._over(f"it could not be renewed before its end: {error.brief}")

    def _try(self) -> BrokerError | None:
        """Renew once; return the error if it passes or may pass."""
        asked_s = time.monotonic()
        answer_s = min(ANSWER_S, max(LEAST_ANSWER_S, self._ends_s - asked_s))
        body = {"leaseId": self._held["leaseId"], "nonce": self._held["nonce"], "ttlSeconds": self._ttl_s}
        try:
            state = replace(self._client, answer_s=answer_s).post("/renew", body)
        except BrokerError as error:
            if error.code not in ENDED:
                return error
            self._over(self._why(error))
            return None
        self._ends_s = asked_s + state["expiresInSeconds"]
        self._see(state)
        return None

    def _follow(self) -> None:
        path = f"/lease/{segment(self._held['leaseId'])}/events"
        while not self._done.is_set():
            try:
                for data in self._client.events(path):
                    if self._done.is_set():
                        return
                    if "lease" in data:
                        self._see(data["lease"])
            except BrokerError as error:
                if error.code in ENDED:
                    self._over(self._why(error))
            except ValueError:
                pass  # half an event: the connection was cut
            self._done.wait(FOLLOW_PAUSE_S)

    def _see(self, lease: LeaseJson) -> None:
        if lease["state"] == "ended":
            self._over(worded(lease.get("reason", "")))
        elif lease["state"] == "ending":
            with self._telling:
                if not self._asked_back and not self._done.is_set():
                    self._asked_back = True
                    self._inbox.put(AskedBack(within_s=lease["expiresInSeconds"], reason=lease.get("reason", "")))

    def _over(self, why: str) -> None:
        with self._telling:
            if not self._done.is_set():
                self._done.set()
                self._inbox.put(Over(why))

    def _why(self, error: BrokerError) -> str:
        """Ask what became of it; the refusal itself only says that it is over."""
        with suppress(BrokerError):
            reason = self._client.get(f"/lease/{segment(self._held['leaseId'])}").get("reason", "")
            if reason:
                return worded(reason)
        return error.brief


def worded(reason: str) -> str:
    """Put an ended lease's reason into words for a person."""
    kind, _, more = reason.partition(":")
    told = WORDS.get(kind, reason or "nobody says why")
    return f"{told} ({more.strip().replace('_', ' ')})" if more.strip() else told
