"""Makes ids and secrets that nobody can guess."""

import os
import platform
import secrets

from broker.core.lease import LeaseId, Nonce
from broker.store.labels import label


class Randomness:
    """Ids and nonces out of the system's random bytes, fetched in stock: a system call for each costs more."""

    def __init__(self) -> None:
        self._stock = ""

    def lease_id(self) -> LeaseId:
        """Make a lease's id, ``L`` and 80 bits in hexadecimal: never guessed, never used twice."""
        return LeaseId("L" + self._take(20))

    def nonce(self) -> Nonce:
        """Make the secret of one grant, 96 bits in hexadecimal."""
        return Nonce(self._take(24))

    def process_name(self) -> str:
        """Make a name for this process: readable, and never another one's."""
        return f"{label(platform.node())[:64]}-{os.getpid()}-{self._take(8)}"

    def boot(self) -> str:
        """Make the name of one run of this broker among those of its name: 32 bits in hexadecimal."""
        return self._take(8)

    def _take(self, characters: int) -> str:
        if len(self._stock) < characters:
            self._stock = secrets.token_hex(512)
        taken, self._stock = self._stock[:characters], self._stock[characters:]
        return taken


def new_generation_key() -> str:
    """Make the API key of one load of one model."""
    return "hsg_" + secrets.token_urlsafe(24)
