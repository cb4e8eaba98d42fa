"""What a request is known by when its client comes back to its ticket, at whatever broker.

The ticket itself is the store's: whose it is and for how long is ``broker/pool/leases/comeback.py``.
"""

import hashlib

from broker.protocol.forms import without_boundary


def fingerprint(who: str, path: str, body: bytes, content_type: bytes) -> str:
    """Hash what two requests must have in common for one to be taken for the other that came back."""
    digest = hashlib.sha256(f"{who}\n{path}\n".encode())
    form = without_boundary(body, content_type) if content_type else None
    digest.update(body if form is None else form)
    return digest.hexdigest()[:20]
