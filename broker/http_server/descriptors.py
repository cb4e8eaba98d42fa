"""How many files and connections this process may open, and how many of them it keeps free for what it has begun."""

import contextlib
import resource
import sys

MOST_KEPT_FREE = 256
"""How many descriptors are kept for the store, model servers and files, while clients take all the rest."""


def raise_limit() -> None:
    """Raise the limit as far as the process may: the usual soft limit of 1024 is for programs that use ``select``."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):  # a kernel may refuse what it gives as the limit
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def ceiling() -> int:
    """The number of a descriptor from which on clients' connections are turned away."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return sys.maxsize
    return soft - min(MOST_KEPT_FREE, soft // 4)
