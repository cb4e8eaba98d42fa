"""What a command waits for, in one line: signals, answers of calls that run beside it, news of a job and of a lease.

The signals that end or steer a process are blocked in every thread and taken by one that does nothing else. So none
comes in the middle of a call that has an effect (a lease nobody knows of would block others), none is lost, and it is
known who sent it: a terminal sends to everybody in the foreground, a person to one process.
"""

import queue
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

ENDING = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT})
PASSED_ON = frozenset({signal.SIGUSR1, signal.SIGUSR2})
TAKEN = ENDING | PASSED_ON
ECHO_S = 0.3
"""Nobody asks twice within so many seconds."""
_FROM_KERNEL = 0x80
"""``si_code`` of a signal that a terminal sent (SI_KERNEL)."""


@dataclass(frozen=True, slots=True)
class Signalled:
    """A signal came that ends or steers the process."""

    number: signal.Signals
    by_terminal: bool
    """The terminal sent it, for a key or its own end: everybody in the foreground has got it too."""
    again: bool = False
    """It asks a second time. Not set where one sender's signal came by two ways (`timeout` signals what it started,
    then the group that is in)."""


@dataclass(frozen=True, slots=True)
class CallEnded:
    """A call that ran beside has come to its end."""

    call: object
    value: object = None
    error: BaseException | None = None


class Inbox:
    """Made once, in the main thread, before any other thread.

    Attributes:
        ignored: Signals that were ignored when the program started, as shells do for a background job and `nohup` for
            SIGHUP; what it starts shall find them so.
        mask: Signals that were blocked then.
    """

    def __init__(self) -> None:
        self.ignored = frozenset(number for number in TAKEN if signal.getsignal(number) is signal.SIG_IGN)
        self.mask = signal.pthread_sigmask(signal.SIG_BLOCK, TAKEN)
        self._asked_s: float | None = None
        self._items: queue.SimpleQueue[object] = queue.SimpleQueue()
        threading.Thread(target=self._take_signals, name="signals", daemon=True).start()

    def put(self, item: object) -> None:
        """Put something in; works from any thread."""
        self._items.put(item)

    def take(self, timeout_s: float | None) -> object | None:
        """Take the next item; None when the time is up."""
        try:
            return self._items.get(timeout=None if timeout_s is None else max(0.0, timeout_s))
        except queue.Empty:
            return None

    def call(self, make: Callable[[], object]) -> object:
        """Run a call beside; return what its ``CallEnded`` will bear as ``call``."""
        token = object()

        def run() -> None:
            try:
                self.put(CallEnded(token, make()))
            except BaseException as error:  # noqa: BLE001 - whoever takes the answer raises it
                self.put(CallEnded(token, error=error))

        threading.Thread(target=run, daemon=True).start()
        return token

    def _take_signals(self) -> None:
        while True:
            info = signal.sigwaitinfo(TAKEN)
            number, by_terminal = signal.Signals(info.si_signo), info.si_code == _FROM_KERNEL
            if number in self.ignored and (by_terminal or number is signal.SIGHUP):
                continue  # Ctrl-C is not for a job in the background, a hang-up not for one under nohup
            self.put(Signalled(number, by_terminal, again=self._is_repeated(number, by_terminal=by_terminal)))

    def _is_repeated(self, number: signal.Signals, *, by_terminal: bool) -> bool:
        """Tell whether somebody asks twice: only a person does so, for a terminal hangs up in more ways than one."""
        if number not in ENDING or by_terminal:
            return False
        now_s = time.monotonic()
        if self._asked_s is None:
            self._asked_s = now_s
        return number is not signal.SIGHUP and now_s - self._asked_s > ECHO_S
