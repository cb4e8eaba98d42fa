"""What a request is known by when its client comes back to its place in line, at whatever broker.

The place itself is the store's: whose it is and for how long is ``broker/core/pool_comeback.py``.
"""

import hashlib


def fingerprint(who: str, path: str, body: bytes) -> str:
    """What two requests must have in common to be taken for one that came back: retries send the same bytes."""
    digest = hashlib.sha256(f"{who}\n{path}\n".encode())
    digest.update(body)
    return digest.hexdigest()[:20]
