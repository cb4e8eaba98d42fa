"""How a command asks for a lease and waits for it: through a broker's restarts, and without leaving anything behind.

Rules:

1. Asking is one operation however often it is tried: a broker that died after it had granted answers with the lease.
2. Who waits goes on waiting while no broker answers, says so, and finds its ticket again; where the ticket was lost
   meanwhile (nobody asked for it in time, or the store was emptied) it asks anew.
3. Who is told to end gives back what it has, also where the answer that tells of it is still on its way.
"""

import argparse
import random
import secrets
import time
from dataclasses import dataclass, field
from typing import Any, cast

from hotseat.clients.http_api import BrokerError, Client, segment
from hotseat.terminal import arguments as words
from hotseat.terminal.inbox import CallEnded, Inbox, Signalled
from hotseat.terminal.progress_line import is_watched, say
from schemas.command_line import CommandLine, meant, one_of

LeaseJson = dict[str, Any]

POLL_S = 20.0
"""Length of one long poll, seconds: well below the waiter's time-out (60 s), after which a ticket is dropped."""
LOOK_S = 2.0
"""Length of one long poll where a person watches, seconds."""
FIRST_ANSWER_S = 10.0
"""How long a broker is looked for that has never answered, seconds: it may be restarting, or not be there at all."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 5.0
GIVE_BACK_S = 15.0
FLAGS = {"ttlSeconds": "--ttl", "sessionKey": "--session", "expectedSeconds": "--expected"}
"""The command line's name of each field that the broker calls otherwise."""


class ToldToEndError(Exception):
    """A signal came; what was held is given back."""

    def __init__(self, signalled: Signalled) -> None:
        super().__init__(signalled.number.name)
        self.signalled = signalled


def parser(program: str, description: str) -> CommandLine:
    """The arguments of every command that asks for a lease."""
    reader = CommandLine(prog=program, description=description)
    reader.add_argument("model", type=words.model, help="a name of `hotseat ps`")
    reader.add_argument("--session", type=words.label(), help="conversation or job (default: this process)")
    reader.add_argument(
        "--ttl", type=words.seconds(1), default=60.0, help="seconds the lease lives unless renewed (60)"
    )
    reader.add_argument(
        "--priority", type=words.priority, default="normal", help="interactive, normal, background, batch, or -5 … 5"
    )
    reader.add_argument("--intent", type=one_of(("use", "warm")), default="use", help="use (default) or warm")
    reader.add_argument("--holder", type=words.label(words.LONGEST_HOLDER), help="who uses it within the session")
    reader.add_argument("--label", metavar="TEXT", help="what it is for, for people: `hotseat ps` and `why` show it")
    reader.add_argument(
        "--expected", type=words.seconds(0), help="seconds you expect to hold it: improves everybody's ETA"
    )
    reader.add_argument(
        "--only-if-warm", action="store_true", help="only while the model is loaded: refused at once where it is not"
    )
    reader.add_argument(
        "--max-wait", type=words.seconds(0, 8_640_000), metavar="S", help="leave the line after so many seconds"
    )
    words.add_url(reader)
    return reader


def lease_body_of(asked: argparse.Namespace, session: str) -> LeaseJson:
    """Make the body of ``POST /lease`` out of the command line."""
    body: LeaseJson = {
        "sessionKey": asked.session or session,
        "model": asked.model,
        "ttlSeconds": asked.ttl,
        "intent": asked.intent,
        "priority": asked.priority,
    }
    body |= {"holder": asked.holder} if asked.holder else {}
    body |= {"label": asked.label} if asked.label else {}
    body |= {"onlyIfWarm": True} if asked.only_if_warm else {}
    return body | ({"expectedSeconds": asked.expected} if asked.expected else {})


@dataclass(slots=True, kw_only=True)
class QueueTicket:
    """One command's wait for a lease, from asking to the grant.

    Attributes:
        program: Who says what is said.
        wish: Body of ``POST /lease``.
        until_s: Monotonic time at which the wait is given up; None: never.
        held: The lease, as far as it is known.
    """

    client: Client
    inbox: Inbox
    program: str
    wish: LeaseJson
    until_s: float | None = None
    held: LeaseJson | None = None
    _said: str = ""
    _answered: bool = False
    _is_away: bool = False
    _pause_s: float = FIRST_PAUSE_S
    _started_s: float = field(default_factory=time.monotonic)

    def ask(self) -> LeaseJson:
        """Get a ticket, or a lease at once.

        Raises:
            BrokerError: Refused, or no broker was found.
            ToldToEndError: A signal came.
        """
        operation = secrets.token_hex(12)
        while True:
            try:
                self.held = self._whole(operation)
            except BrokerError as error:
                self._bear(error)
            else:
                self._well()
                return self.held

    def wait(self) -> LeaseJson:
        """Wait until the lease leaves the queue.

        Raises:
            BrokerError: The broker refuses this lease for good, or ``until_s`` has come.
            ToldToEndError: A signal came.
        """
        held = self.held or self.ask()
        self._show(held)
        while held["state"] == "queued":
            try:
                held = self._poll(held)
            except BrokerError as error:
                if error.code != "not_found":
                    self._bear(error)
                    continue
                held = {"state": "ended", "reason": "timed_out"}
            if held["state"] == "ended" and held.get("reason") == "timed_out":
                say(f"{self.program}: the place in line was lost while nobody could ask for it; asking anew")
                held = self.ask()
            self._well()
            self.held = held
            self._show(held)
        return held

    def _whole(self, operation: str) -> LeaseJson:
        """One try of asking, which a signal does not cut short: the answer tells what there is to give back."""
        told: Signalled | None = None
        call = self.inbox.call(lambda: self.client.post("/lease", self.wish, operation=operation))
        while True:
            item = self.inbox.take(None)
            if isinstance(item, Signalled):
                if told is not None and item.again:
                    raise ToldToEndError(told)
                told = told or item
            if isinstance(item, CallEnded) and item.call is call:
                break
        if item.error is None:
            self.held = cast("LeaseJson", item.value)
        if told is not None:
            raise ToldToEndError(told)
        if item.error is not None:
            raise item.error
        return cast("LeaseJson", item.value)

    def _poll(self, held: LeaseJson) -> LeaseJson:
        wait_s = LOOK_S if is_watched() else POLL_S
        if self._is_away:  # the first answer tells whether the place is still there
            wait_s = 0.0
        if self.until_s is not None:
            wait_s = min(wait_s, max(0.0, self.until_s - time.monotonic()))
        path = f"/lease/{segment(held['leaseId'])}?wait={wait_s:.3g}"
        call = self.inbox.call(lambda: self.client.get(path, wait_s=wait_s))
        while True:
            item = self.inbox.take(None)
            if isinstance(item, Signalled):
                raise ToldToEndError(item)
            if isinstance(item, CallEnded) and item.call is call:
                break
        if item.error is not None:
            raise item.error
        fresh = cast("LeaseJson", item.value)
        if fresh["state"] == "queued":
            self._leave_in_time()
        return {**fresh, "nonce": fresh.get("nonce", held["nonce"])}

    def _bear(self, error: BrokerError) -> None:
        """What passes is waited for; what does not is raised."""
        looked_for_s = time.monotonic() - self._started_s
        if not error.is_passing or (not self._answered and looked_for_s > FIRST_ANSWER_S):
            raise error
        self._leave_in_time()
        self._is_away = True
        kept = "your place is kept" if self.held is not None else "asking"
        line = f"{self.program}: {error.brief}; {kept}, trying again"
        if line != self._said:
            say(line)
        self._said = line
        pause_s = max(self._pause_s * random.uniform(0.8, 1.2), min(error.retry_after_s, LONGEST_PAUSE_S))
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
        self._rest(pause_s)

    def _rest(self, pause_s: float) -> None:
        end_s = time.monotonic() + pause_s
        while (left_s := end_s - time.monotonic()) > 0:
            item = self.inbox.take(left_s)
            if isinstance(item, Signalled):
                raise ToldToEndError(item)

    def _well(self) -> None:
        self._answered, self._is_away, self._pause_s = True, False, FIRST_PAUSE_S

    def _leave_in_time(self) -> None:
        if self.until_s is not None and time.monotonic() >= self.until_s:
            raise BrokerError("it was not our turn within --max-wait; the place in line is given up", code="max_wait")

    def _show(self, held: LeaseJson) -> None:
        if held["state"] != "queued":
            return
        because = f" ({held['waitReason'].replace('_', ' ')})" if "waitReason" in held else ""
        line = f"{held['model']}: place {held.get('position', '?')}, {eta_of(held)}{because}{_failed(held)}"
        if line != self._said:
            say(line)
        self._said = line


def _failed(held: LeaseJson) -> str:
    """How the last load of its model failed, while it waits for another one."""
    failure = held.get("loadFailure")
    if failure is None:
        return ""
    count = "" if failure["fails"] == 1 else f" {failure['fails']} times"
    return f"; its load failed{count}: {failure['error']}"


def eta_of(held: LeaseJson) -> str:
    """When it is its turn, for a person."""
    return f"about {max(1.0, held['etaSeconds']):.0f} s" if "etaSeconds" in held else "ETA unknown"


def give_back(client: Client, held: LeaseJson, inbox: Inbox) -> None:
    """Give a lease back, or leave the queue; what no broker takes back in time runs out by itself.

    A signal meanwhile (the same key may have been pressed twice) leaves it one last answer, a second one none.
    """
    body = {"leaseId": held["leaseId"], "nonce": held["nonce"]}
    end_s, pause_s, told = time.monotonic() + GIVE_BACK_S, FIRST_PAUSE_S, 0
    call = inbox.call(lambda: client.post("/release", body))
    while (left_s := end_s - time.monotonic()) > 0 and told < 2:
        item = inbox.take(left_s)
        told += isinstance(item, Signalled)
        if not isinstance(item, CallEnded) or item.call is not call:
            continue
        if not isinstance(item.error, BrokerError) or not item.error.is_passing:
            return
        if told:
            break
        time.sleep(min(pause_s, max(0.0, end_s - time.monotonic())))
        pause_s *= 2
        call = inbox.call(lambda: client.post("/release", body))
    say(f"hotseat: the lease {held['leaseId']} could not be given back; it runs out by itself")


def explained(client: Client, error: BrokerError, wish: LeaseJson) -> str:
    """Put a refusal into the words of the command line; for an unknown model add the names there are."""
    if error.code == "unknown_model":
        return _unknown(client, wish["model"])
    text = str(error)
    for name, flag in FLAGS.items():
        text = text.replace(name, flag)
    return text


def _unknown(client: Client, model: str) -> str:
    try:
        names = [entry["name"] for entry in client.get("/models")["models"]]
    except (BrokerError, LookupError):
        names = []
    there_are = f"; there are: {', '.join(names)}" if names else ""
    return f"there is no model {model!r}{meant(model, names) or there_are}"
