"""How deep a model is on a slot: the one spelling of it for the broker, the worker, the store and their messages.

Rule: this module is pure, and the cores may import it. A new tier between cold and ready is a member here, at its place
in the order, with its arrows in ``broker.core.slot.RESIDENCY_TRANSITIONS``; it is a word of ``ORDERABLE`` once workers
can do it.
"""

from enum import StrEnum


class Residency(StrEnum):
    """How deep a model is on a slot, in order: the deeper, the nearer it is to serving. The values are wire words."""

    ABSENT = "absent"
    FAILED = "failed"
    """Its load failed or its server died; only a worker says so, and to the store such a model unloads."""
    UNLOADING = "unloading"
    LOADING = "loading"
    READY = "ready"

    @property
    def depth(self) -> int:
        """Its place in the order; 0 is absent."""
        return _DEPTHS[self]

    @property
    def occupies_device(self) -> bool:
        """Is its memory spoken for, as it is in the orders? What unloads is gone before anything else loads."""
        return self is Residency.LOADING or self is Residency.READY

    @property
    def occupies_host(self) -> bool:
        """Is anything of its server there, as far as anybody knows?"""
        return self is not Residency.ABSENT


_DEPTHS = {state: depth for depth, state in enumerate(Residency)}

ORDERABLE = frozenset({Residency.READY})
"""The depths that a slot's orders may ask for; a worker refuses every other."""
