"""Requests with an ``Idempotency-Key``: one generation for all of a caller's that bear the same key and body.

1. The first begins the generation, which belongs to no connection; who comes while it runs follows it from its
   beginning.
2. When the last connection is lost, a model server at work goes on for ``GRACE_S``: SDKs whose connection broke or
   timed out ask again within that.
3. A whole and good answer is kept for a while. Of anything else those who are there hear, and the next one begins anew.
4. The same key with another request is refused while the first one runs or is kept.

What is kept is bounded; who has most loses its oldest first, and what it has in flight is kept no more, so nobody takes
another's part.
"""

import asyncio
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from broker.core.errors import BadArgumentError, OperationMismatchError
from broker.gateway.repeats.recording import OVERHEAD, Recording
from broker.protocol.forms import without_boundary

OPERATION_HEADER = b"idempotency-key"
MAX_OPERATION = 128
"""Longest key, characters; as for ``POST /lease``, and all that the SDKs make are shorter."""
GRACE_S = 5.0
"""How long a generation goes on without a reader, seconds: official SDKs ask again 0.5 to 2 s after the first
failure."""
MAX_ANSWER = 8 * 1024 * 1024
"""Longest answer that is taken down, bytes: a stream of some 30,000 tokens."""
_SAYING = (b"x-hotseat-", b"anthropic-", b"openai-")
"""Headers that begin so are part of the question, so two requests that differ in them are not the same."""

OperationOwner = tuple[str, str]
"""Name of the API key; for callers without a key their address too."""


def operation_of(headers: Mapping[bytes, bytes]) -> str:
    """Return what the client calls its request; empty: nothing.

    Raises:
        BadArgumentError: It is too long, or not printable.
    """
    key = headers.get(OPERATION_HEADER)
    if key is None:
        return ""
    if not 0 < len(key) <= MAX_OPERATION or any(not 0x21 <= byte <= 0x7E for byte in key):
        raise BadArgumentError(
            f"Idempotency-Key must be 1 to {MAX_OPERATION} printable ASCII characters without spaces"
        )
    return key.decode("ascii")


def digest_of(target: str, headers: Mapping[bytes, bytes], body: bytes) -> bytes:
    """Hash what two requests must share to be the same. A form's boundary, new with each try, does not count."""
    content_type = headers.get(b"content-type", b"")
    form = without_boundary(body, content_type)
    digest = hashlib.sha256(target.encode() + b"\n")
    if form is None:
        digest.update(content_type + b"\n")
    for name in sorted(headers):
        if name.startswith(_SAYING):
            digest.update(b"%b: %b\n" % (name, headers[name]))
    digest.update(body if form is None else form)
    return digest.digest()


@dataclass(slots=True)
class _Operation:
    owner: OperationOwner
    digest: bytes
    recording: Recording
    forgotten: asyncio.TimerHandle | None = None
    """The timer after which it is forgotten; None: it is still running."""


@dataclass(slots=True, kw_only=True)
class Operations:
    """The operations that one broker process knows of: running ones, and those whose answer is kept."""

    kept_s: float
    """How long a whole answer is kept, seconds; 0: the header means nothing."""
    max_bytes: int
    """How much all recorded answers may take together, bytes."""
    size: int = 0
    """How much the recorded answers take now, bytes."""
    _known: dict[tuple[OperationOwner, str], _Operation] = field(default_factory=dict)
    """All operations by owner and key, the oldest first."""
    _weights: dict[OperationOwner, int] = field(default_factory=dict)
    """How much the answers of each owner take, bytes."""

    def find(self, owner: OperationOwner, operation: str, digest: bytes) -> Recording | None:
        """Find the answer to the same request; None: there is none, so ``begin`` it.

        Raises:
            OperationMismatchError: The key stands for another request.
        """
        found = self._known.get((owner, operation))
        if found is None or not found.recording.is_open:
            return None
        if found.digest != digest:
            raise OperationMismatchError(
                "the Idempotency-Key was used for another request a moment ago; give each request a key of its own, "
                "and the same one only to ask for the same again"
            )
        return found.recording

    def begin(self, owner: OperationOwner, operation: str, digest: bytes) -> Recording:
        """Begin a new operation; call ``end`` when it is over."""
        self._forget(owner, operation)
        made = Recording(grace_s=GRACE_S, grown=lambda which, by: self._weigh(owner, which, by))
        self._known[owner, operation] = _Operation(owner, digest, made)
        self._count(owner, OVERHEAD)
        self._make_room()
        return made

    def end(self, owner: OperationOwner, operation: str, recording: Recording, *, is_good: bool) -> None:
        """Note that an operation is over; a good answer is kept."""
        recording.close()
        known = self._known.get((owner, operation))
        if known is None or known.recording is not recording:
            self._free(owner, recording)
        elif not is_good or not recording.is_open:
            self._forget(owner, operation)
        else:
            loop = asyncio.get_running_loop()
            known.forgotten = loop.call_later(self.kept_s, self._forget, owner, operation)
            self._make_room()

    def close(self) -> None:
        """Forget everything because the process ends; running generations are interrupted."""
        for known in list(self._known.values()):
            known.recording.give_up()
            if known.forgotten is not None:
                known.forgotten.cancel()
        self._known.clear()

    # ---------------------------------------------------------------------------------------------------- bounds
    def _weigh(self, owner: OperationOwner, recording: Recording, by: int) -> bool:
        if not recording.size:  # it counts no more, but somebody still reads it
            return False
        recording.size += by
        self._count(owner, by)
        if by > 0:
            self._make_room()
        return recording.size <= MAX_ANSWER and (self.size <= self.max_bytes or not self._has_too_much(owner))

    def _count(self, owner: OperationOwner, by: int) -> None:
        self.size += by
        self._weights[owner] = left = self._weights.get(owner, 0) + by
        if left <= 0:
            del self._weights[owner]

    def _has_too_much(self, owner: OperationOwner) -> bool:
        """Tell whether an owner has more than an equal part of all."""
        return self._weights.get(owner, 0) * len(self._weights) > self.max_bytes

    def _make_room(self) -> None:
        """Drop the oldest answer of who has most, until all fit. Within its part nobody loses any."""
        while self.size > self.max_bytes:
            kept = [
                known
                for known in self._known.items()
                if known[1].recording.is_over and self._has_too_much(known[1].owner)
            ]
            if not kept:
                return
            owner, operation = max(kept, key=lambda each: self._weights[each[0][0]])[0]
            self._forget(owner, operation)

    def _forget(self, owner: OperationOwner, operation: str) -> None:
        known = self._known.pop((owner, operation), None)
        if known is None:
            return
        known.recording.is_open = False
        if known.forgotten is not None:
            known.forgotten.cancel()
        if known.recording.is_over:
            self._free(owner, known.recording)

    def _free(self, owner: OperationOwner, recording: Recording) -> None:
        self._count(owner, -recording.size)
        recording.size = 0
