"""`python -m hotseat`: the command, by the interpreter that runs it."""

import sys

from hotseat.cli import main

sys.exit(main())
