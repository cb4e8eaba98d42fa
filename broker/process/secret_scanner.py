"""Secrets in texts, by Kingfisher's rules (MongoDB, Apache-2.0): the firewall's scanner.

Rule: imported and compiled only where a request could leave, by ``app``; nothing of it ever calls the network.
"""

from collections.abc import Callable
from typing import Literal

CONFIDENCE: Literal["low", "medium", "high"] = "medium"
"""Which rules: ``low`` would take any assignment to a name like ``key`` for a secret."""


def open_scanner() -> Callable[[str], bool]:
    """Compile the rules: about half a second, the first time on a machine several; then 1 ms per 100 kB of text.

    Raises:
        ImportError: The package is not installed: a broker with upstreams must not start without it.
    """
    from kingfisher_sdk import Rules, Scanner  # noqa: PLC0415 - 35 MB of native code, only for brokers with upstreams

    scanner = Scanner(Rules(confidence=CONFIDENCE), redact=True)

    def finds(text: str) -> bool:
        """Does a text hold a secret?"""
        return any(finding.visible for finding in scanner.scan(text.encode("utf-8", "replace")))

    return finds
