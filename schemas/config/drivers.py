"""The drivers that a ``[[model]]`` may name: the one line that a new driver needs stands here.

Broker and worker both read it, so a model that nobody can ever start is refused by whichever reads the file first. The
driver itself is the worker's: ``gpu_worker/drivers/NAME.py``, found by that name (``gpu_worker/drivers/registry.py``).
"""

DEFAULT_DRIVER = "process"
DRIVERS = frozenset({
    "http",
    "ollama",
    "process",
})  # fmt: skip
"""These are their names, one a line."""
