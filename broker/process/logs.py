"""The broker's log: one event and its fields per line."""

import logging

from schemas import log_lines


def set_up(form: str, level: str) -> None:
    """Send this process's log to stderr; requests are counted, not logged."""
    log_lines.set_up(form, level)
    # What our lines do not say is not looked up, as the logging module's own documentation advises; saves a third.
    logging._srcfile = None  # noqa: SLF001
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging.getLogger("uvicorn.access").propagate = False
