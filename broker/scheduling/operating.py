"""What operators do to models: out of service and back, load and unload by hand; each once, on a fresh picture."""

from collections.abc import Callable

from broker.access.principals import Principal
from broker.core.decisions import Load, Unload, Why
from broker.core.errors import StaleDecisionError
from broker.core.lease import ModelName, SlotId
from broker.core.snapshot import Snapshot
from broker.policy import by_hand
from broker.policy.by_hand import Moved
from broker.policy.settings import PolicySettings
from broker.process.randomness import new_generation_key
from broker.store.port import Store

TRIES = 5
"""A pool in motion makes a picture old; the next one may do."""


class Operating:
    """The service behind the operator's calls about models."""

    def __init__(self, store: Store, policy: PolicySettings) -> None:
        self._store = store
        self._policy = policy

    async def take_out(self, caller: Principal, model: ModelName, reason: str) -> None:
        """No more leases on it; who waits is told the reason, who has it keeps it, and then it is unloaded.

        Raises:
            UnknownModelError: There is none.
        """
        await self._store.set_model(model, off=reason, who=f"operator:{caller.name}")

    async def put_back(self, caller: Principal, model: ModelName) -> None:
        """Serve it again.

        Raises:
            UnknownModelError: There is none.
        """
        await self._store.set_model(model, off="", who=f"operator:{caller.name}")

    async def load(self, caller: Principal, model: ModelName, slot: SlotId | None) -> Moved:
        """Order a load though nobody waits for it; see ``by_hand.load``."""
        return await self._move(caller, lambda snapshot: by_hand.load(snapshot, self._policy, model, slot))

    async def unload(self, caller: Principal, model: ModelName, slot: SlotId | None) -> Moved:
        """Give its memory back now; see ``by_hand.unload``."""
        return await self._move(caller, lambda snapshot: by_hand.unload(snapshot, model, slot))

    async def _move(self, caller: Principal, choose: Callable[[Snapshot], Moved]) -> Moved:
        tried = 0
        while True:
            moved, tried = choose(await self._store.snapshot()), tried + 1
            try:
                for order in moved.orders:
                    await self._commit(order, f"{Why.OPERATOR.value}:{caller.name}")
            except StaleDecisionError:
                if tried == TRIES:
                    raise
                continue
            return moved

    async def _commit(self, order: Load | Unload, why: str) -> None:
        slot, generation, model = order.slot, order.generation, order.model
        if isinstance(order, Unload):
            await self._store.unwant(slot=slot, generation=generation, model=model, why=why)
            return
        await self._store.want(
            slot=slot,
            generation=generation,
            model=model,
            depth=order.depth,
            evict=order.evict,
            key=new_generation_key(),
            why=why,
        )
