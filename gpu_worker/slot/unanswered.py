"""A worker that nobody answers says so: at another store, another database or another pool than the brokers it waits.

Pure. A worker may look at its own slot's orders only, so it can't see who else is there; but a broker answers a report
within two seconds.
"""

from dataclasses import dataclass

PATIENCE_S = 10.0
AGAIN_S = 300.0
"""Between two complaints."""


@dataclass(slots=True, kw_only=True)
class Unanswered:
    """Notices that the reports of one slot find no broker, and says when to complain."""

    store: str
    """Where orders are looked for: address and pool."""
    _since_s: float | None = None
    _again_s: float = 0.0
    complained: bool = False

    def waits(self, now_s: float, incarnation: str) -> str:
        """The orders are not for us yet.

        Args:
            now_s: Monotonic clock.
            incarnation: Of the orders; empty: nobody has ever written any for this slot.

        Returns:
            What to say, if it is time to.
        """
        if self._since_s is None:
            self._since_s, self._again_s = now_s, now_s + PATIENCE_S
        if now_s < self._again_s:
            return ""
        self._again_s, self.complained = now_s + AGAIN_S, True
        waited = f"for {now_s - self._since_s:.0f} s"
        if incarnation:
            return f"no broker has answered this worker's reports at {self.store} {waited}: is one running there?"
        return (
            f"no broker knows this slot at {self.store}, {waited}: url (with the number of the database) and pool of "
            "[store] must be the brokers' own, and one of them must run"
        )

    def answered(self) -> bool:
        """They are; True when it was said that nobody answers."""
        self._since_s = None
        was, self.complained = self.complained, False
        return was
