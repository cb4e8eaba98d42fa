"""SIGHUP: a terminal that has closed, or an operator who hopes for a reload. There is none, and neither ends a daemon.

It would kill a process that knows nothing of it, with nothing in its log. Used by every daemon of ours, so it stands
beside the log's form, on the floor that all may use.
"""

import logging
import signal

HINT = "there is no reload: restart to read the configuration again"


def ignore_while_starting() -> None:
    """Nobody dies of it before there is a log to tell it to."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def say_ignored(log: logging.Logger) -> None:
    """What a daemon does from then on."""
    log.warning("hangup_ignored", extra={"hint": HINT})
