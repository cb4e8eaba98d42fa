"""Become another program that is killed when the process that started it ends, however it ends.

`python -I -S die_with_parent.py <parent's pid> <signal> <program> <argument>…`

A child started by a supervisor outlives it when the supervisor is killed with -9. The kernel can be asked for more
(`prctl(PR_SET_PDEATHSIG)`), but only by the child itself, before it becomes the program; asking between fork and exec
from a threaded Python is not safe, so this file is a program of its own. It imports as little as it can: it runs
before every child. Where there is no `prctl` (not Linux) the child is started without that promise.
"""

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1


def main(argv: list[str]) -> None:
    """Ask the kernel, then become the program; never returns."""
    parent, signal_number, program = int(argv[0]), int(argv[1]), argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal_number)
        if os.getppid() != parent:  # it died before the kernel was asked
            sys.exit(1)
    os.execvp(program[0], program)  # noqa: S606 - becoming the program is this file's purpose


if __name__ == "__main__":
    main(sys.argv[1:])
