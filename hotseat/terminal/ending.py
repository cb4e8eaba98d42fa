"""How a command that was told to end tells so: by its exit status, or by the signal where a shell waits for that."""

import os
import signal

from hotseat.terminal.inbox import Signalled


def end_by(signalled: Signalled) -> int:
    """The exit status of one that a signal ended. Returns only where that is told by a number.

    After Ctrl-C a shell stops its loop or script only when what it ran has died of that signal; who sends one with
    `kill` looks at the number, which to a shell is the same.
    """
    if signalled.number is signal.SIGINT and signalled.by_terminal:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        os.kill(os.getpid(), signal.SIGINT)
    return 128 + signalled.number
