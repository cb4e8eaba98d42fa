"""`hotseat run`: a command, and all that it starts, under a lease.

Rules:

1. The lease is given back when nothing of the job lives, however it ended.
2. Who is told to end (SIGTERM, SIGINT, SIGHUP, SIGQUIT) tells the whole job; a second time, or `--kill-after`, kills
   it. A key pressed on a terminal is between the terminal and the job, as without us.
3. A job whose lease is asked back is warned at once and stopped in time; one whose lease is over is stopped.
4. What the command leaves running in the background when it ends by itself still is the job.
"""

import argparse
import json
import os
import shutil
import signal
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from hotseat.clients.http_api import BrokerError, Client
from hotseat.clients.renewing import AskedBack, Away, Back, Over, Renewing
from hotseat.clients.waiting import LeaseJson, QueueTicket, ToldToEndError, explained, give_back, lease_body_of, parser
from hotseat.job.process import Exited, Gone, Job, KeeperLost, Started, StartFailed, Stuck, named
from hotseat.terminal import arguments as words
from hotseat.terminal.ending import end_by
from hotseat.terminal.inbox import PASSED_ON, Inbox, Signalled
from hotseat.terminal.progress_line import say
from schemas.command_line import meant

LEASE_OVER, NOT_RUN = 124, 125
KILL_AFTER_S = 10.0
LEFT_PAUSE_S = 1.0
"""What ends within so many seconds of the command is not left behind by it."""
SPARE_S = 1.0
"""Kept of a grace, seconds: the job must be gone before the lease is."""
EPILOG = """\
The lease is given back when nothing of the job lives. The exit status is the command's, or 128 and the number of the
signal that ended it; 124 when it was stopped because its lease was over, 125 when there was no lease to run it under,
126 and 127 when the command could not be started.

A job whose lease is asked back gets --warn-signal, where it listens for that signal, and the file HOTSEAT_NOTICE,
which is not there before. It has the broker's grace to finish, then it is stopped.
"""
KEY_S = 0.05
"""How much later the thread that takes a key may be than the command, seconds."""
OBEYED_S = 5.0
"""A command that ends so soon after a key was pressed, seconds, has obeyed it; what it leaves behind shall end too."""
WORDLESS = "none"


def run(argv: list[str]) -> int:
    """`hotseat run MODEL -- COMMAND …`: run a command under a lease and give it back afterwards."""
    own, command = (argv[: argv.index("--")], argv[argv.index("--") + 1 :]) if "--" in argv else (argv, [])
    files = Files()
    reader = _reader()
    arguments = reader.parse_args(own)
    if not command:
        reader.error("say what to run after `--`")
    inbox, client = Inbox(), Client.from_environment(url=arguments.url)
    ticket = QueueTicket(
        client=client,
        inbox=inbox,
        program="hotseat run",
        wish=lease_body_of(arguments, f"cli:{os.getpid()}"),
        until_s=None if arguments.max_wait is None else time.monotonic() + arguments.max_wait,
    )
    try:
        held = _granted(ticket)
    except BrokerError as error:
        _let_go(ticket)
        say(f"hotseat run: {explained(client, error, ticket.wish)}")
        return NOT_RUN
    except ToldToEndError as told:
        _let_go(ticket)
        return end_by(told.signalled)
    try:
        return JobRun(client, held, arguments, inbox).carry_out(command, files)
    except OSError as error:  # nothing was started: no process or no file more is to be had
        give_back(client, held, inbox)
        say(f"hotseat run: {error.strerror}")
        return NOT_RUN


class Files:
    """The files that we were started with: they are the command's, and ours only until it has them.

    Where one of the first three is closed it is opened on nothing: the next file to be opened would become it, and the
    command would write there.
    """

    def __init__(self) -> None:
        for descriptor in (0, 1, 2):
            try:
                os.fstat(descriptor)
            except OSError:
                os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
        self._others = [int(one.name) for one in Path("/proc/self/fd").iterdir() if _is_inherited(int(one.name))]

    def let_go(self) -> None:
        """Close all but standard error: who reads what the command writes shall see its end."""
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1):
            os.dup2(null, descriptor)
        for descriptor in (null, *self._others):
            os.close(descriptor)


def _is_inherited(descriptor: int) -> bool:
    """Tell whether a descriptor was given to us: what Python opens itself is not handed on."""
    try:
        return descriptor > 2 and os.get_inheritable(descriptor)
    except OSError:
        return False  # the listing's own


def _reader() -> argparse.ArgumentParser:
    reader = parser("hotseat run", "Run a command under a lease: OPENAI_BASE_URL and OPENAI_API_KEY are set for it.")
    reader.usage = "hotseat run MODEL [options] -- COMMAND [ARGUMENT ...]"
    reader.epilog, reader.formatter_class = EPILOG, argparse.RawDescriptionHelpFormatter
    reader.add_argument(
        "--kill-after",
        type=words.seconds(0),
        default=KILL_AFTER_S,
        metavar="S",
        help="seconds from asking to killing (10)",
    )
    reader.add_argument(
        "--warn-signal", type=_signal, default=signal.SIGTERM, metavar="NAME", help="of a lease asked back (TERM); none"
    )
    reader.add_argument(
        "--stop-leftovers", action="store_true", help="end what the command leaves running instead of waiting for it"
    )
    return reader


def _signal(text: str) -> signal.Signals | None:
    if text.lower() == WORDLESS:
        return None
    with suppress(ValueError, KeyError):
        return (
            signal.Signals(int(text)) if text.isdecimal() else signal.Signals[f"SIG{text.upper().removeprefix('SIG')}"]
        )
    names = [one.name.removeprefix("SIG") for one in signal.Signals]
    raise argparse.ArgumentTypeError(
        f"must be a signal, such as TERM or USR1, or none; not {text!r}{meant(text, names)}"
    )


def _granted(ticket: QueueTicket) -> LeaseJson:
    """Wait for a lease that a job can begin under.

    Raises:
        BrokerError: Refused, or it ended before it began.
        ToldToEndError: A signal came.
    """
    while True:
        held = ticket.wait()
        if held["state"] == "active":
            return held
        if held["state"] != "ending":
            raise BrokerError(f"the lease ended: {held.get('reason', 'unknown')}", status=410, code="lease_ended")
        give_back(ticket.client, held, ticket.inbox)  # asked back before anything began: the next one
        ticket.held = None
        ticket.ask()


def _let_go(ticket: QueueTicket) -> None:
    if ticket.held is not None:
        give_back(ticket.client, ticket.held, ticket.inbox)


class Notice:
    """The file that tells a job of its lease: it is not there while all is well.

    Attributes:
        path: What `HOTSEAT_NOTICE` says; None where this host has no place for such a file.
    """

    def __init__(self) -> None:
        self.path: Path | None = None
        with suppress(OSError):
            self.path = Path(tempfile.mkdtemp(prefix="hotseat-run-")) / "notice"

    def write(self, state: str, reason: str, within_s: float) -> None:
        """Replace it; a full disk does not end the job."""
        if self.path is None:
            return
        document = {
            "state": state,
            "reason": reason,
            "endsInSeconds": round(within_s, 1),
            "endsAt": round(time.time() + within_s, 1),
        }
        with suppress(OSError):
            unfinished = self.path.with_suffix(".part")
            unfinished.write_text(json.dumps(document) + "\n", encoding="utf-8")
            unfinished.replace(self.path)

    def remove(self) -> None:
        """Remove the file with its folder."""
        if self.path is not None:
            shutil.rmtree(self.path.parent, ignore_errors=True)


class JobRun:
    """One job under its lease."""

    def __init__(self, client: Client, held: LeaseJson, arguments: argparse.Namespace, inbox: Inbox) -> None:
        self._client, self._held, self._arguments, self._inbox = client, held, arguments, inbox
        self._notice = Notice()
        self._job: Job
        self._has_started = False
        self._told: Signalled | None = None
        self._key_s: float | None = None
        """When a key was pressed on the terminal that ends most commands, monotonic seconds; None: never."""
        self._status: int | None = None
        self._left: tuple[int, ...] = ()
        self._lease_over = self._stopped_for_lease = self._gone = False
        self._due: dict[str, float] = {}
        """What is to be done by and by, with its monotonic time in seconds."""

    def carry_out(self, command: list[str], files: Files) -> int:
        """Run the command to its end; return the exit status."""
        self._files = files
        renewing = Renewing(self._client, self._held, self._arguments.ttl, self._inbox)
        try:
            self._job = Job(self._inbox, self._environment())
            self._job.start(command, kill_after_s=self._arguments.kill_after)
            while not self._gone:
                self._handle(self._inbox.take(self._next_s()), command)
                self._do_what_is_due()
        finally:
            renewing.stop()
            self._notice.remove()
        status = self._exit_status()
        if self._left:
            lease_id = self._held["leaseId"]
            say(f"hotseat run: cannot be ended: {named(self._left)}; the lease {lease_id} is left to run out")
        elif not self._lease_over:
            give_back(self._client, self._held, self._inbox)
        return status if isinstance(status, int) else end_by(status)

    def _environment(self) -> dict[str, str]:
        own = {"HOTSEAT_LEASE": self._held["leaseId"]}
        if self._notice.path is not None:
            own["HOTSEAT_NOTICE"] = str(self._notice.path)
        if "endpoint" in self._held:
            endpoint = self._held["endpoint"]
            own |= {"OPENAI_BASE_URL": endpoint["baseUrl"], "OPENAI_API_KEY": endpoint["apiKey"]}
        return {**os.environ, **own}

    def _exit_status(self) -> int | Signalled:
        if self._stopped_for_lease:
            return LEASE_OVER
        if self._status is None:
            return 128 + signal.SIGKILL
        if self._status == -signal.SIGINT and self._was_the_key():
            return Signalled(signal.SIGINT, by_terminal=True)
        return self._status if self._status >= 0 else 128 - self._status

    def _was_the_key(self) -> bool:
        """Tell whether the command died of Ctrl-C; we have got it too, perhaps only now."""
        while self._key_s is None and (item := self._inbox.take(KEY_S)) is not None:
            if isinstance(item, Signalled) and item.by_terminal:
                self._key_s = time.monotonic()
        return self._key_s is not None

    # -------------------------------------------------------------------------------------------------- what comes

    def _handle(self, item: object, command: list[str]) -> None:
        match item:
            case Signalled():
                self._signalled(item)
            case StartFailed():
                say(f"hotseat run: {command[0]}: {item.words}")
                self._status, self._gone = item.status, True
            case Exited():
                self._exited(item)
            case Gone():
                self._gone = True
            case Stuck():
                self._left, self._gone = item.left, True
            case Started():
                self._has_started = True
                self._files.let_go()
            case KeeperLost():
                self._keeper_lost()
            case AskedBack() | Over() | Away() | Back():
                self._lease_news(item)

    def _keeper_lost(self) -> None:
        if self._has_started:
            say("hotseat run: the job's keeper was killed; ending the job")
        else:
            say("hotseat run: the command could not be started: its keeper ended at once (out of files or memory?)")
            self._status = NOT_RUN
        self._left, self._gone = self._job.bury(grace_s=self._arguments.kill_after), True

    def _signalled(self, item: Signalled) -> None:
        if item.number in PASSED_ON:
            self._job.tell(item)
        elif item.by_terminal and item.number is not signal.SIGHUP:
            self._job.had(item)
            self._key_s = time.monotonic()
            if self._status is not None:  # the command is gone: the key is for what it left behind
                self._job.stop(grace_s=self._arguments.kill_after)
        elif self._told is not None:
            if item.again:
                self._job.kill()
        else:
            self._told = item
            if self._status is not None:  # the job did not come to its end by itself
                self._status = -item.number
            self._job.pass_on(item, grace_s=self._arguments.kill_after)

    def _exited(self, item: Exited) -> None:
        self._status = item.status
        pressed = self._key_s is not None and time.monotonic() - self._key_s < OBEYED_S
        if self._arguments.stop_leftovers or pressed:
            self._job.stop(grace_s=self._arguments.kill_after)
        elif self._told is None and not self._stopped_for_lease:
            self._due["left"] = time.monotonic() + LEFT_PAUSE_S

    def _lease_news(self, item: AskedBack | Over | Away | Back) -> None:
        match item:
            case Away():
                say(f"hotseat run: {item.error}; trying again, the lease lasts {item.left_s:.0f} s more")
            case Back():
                say("hotseat run: the broker answers again; the lease was renewed")
            case AskedBack():
                self._asked_back(item)
            case Over():
                self._over(item)

    def _asked_back(self, item: AskedBack) -> None:
        self._notice.write("ending", item.reason, item.within_s)
        say(f"hotseat run: the lease is asked back: the command has {item.within_s:.0f} s to finish")
        if self._arguments.warn_signal is not None:
            self._job.warn(self._arguments.warn_signal)
        stop_s = min(self._arguments.kill_after, item.within_s / 2)
        spare_s = min(SPARE_S, item.within_s / 10)
        self._due["stop"] = time.monotonic() + item.within_s - stop_s - spare_s
        self._stop_s = stop_s

    def _over(self, item: Over) -> None:
        self._lease_over = True
        self._notice.write("ended", item.why, 0.0)
        if self._held["intent"] == "warm":  # it promised nothing: the job never had the model for itself
            say(f"hotseat run: the lease is over: {item.why}; the command goes on without it")
            return
        say(f"hotseat run: the lease is over: {item.why}; stopping the command")
        self._stop_for_lease(self._arguments.kill_after)

    # ------------------------------------------------------------------------------------------------ what is due

    def _next_s(self) -> float | None:
        return max(0.0, min(self._due.values()) - time.monotonic()) if self._due else None

    def _do_what_is_due(self) -> None:
        now_s = time.monotonic()
        for what in [what for what, due_s in self._due.items() if due_s <= now_s]:
            del self._due[what]
            if what == "stop":
                self._stop_for_lease(self._stop_s)
            elif not self._gone and (pids := self._job.pids()):
                say(f"hotseat run: the command has ended; it left running, and the lease waits for: {named(pids)}")

    def _stop_for_lease(self, grace_s: float) -> None:
        if not self._gone and self._held["intent"] != "warm":
            self._stopped_for_lease = True
            self._job.stop(grace_s=grace_s)
