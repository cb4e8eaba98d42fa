"""Addresses of servers as people write them, looked at before anybody connects; and secrets in files of their own."""

from collections.abc import Collection
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

MAX_SECRET_BYTES = 4096
"""Of a secret's line."""


def address_of(url: str, schemes: Collection[str]) -> SplitResult:
    """The parts of an address that somebody can be reached at.

    Raises:
        ValueError: Another scheme, no host, no such port, or credentials; the message does not repeat the address.
    """
    wanted = " or ".join(f"{scheme}://" for scheme in schemes)
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        told = "has a port that is no number from 1 to 65535" if "ort" in str(error) else "is not an address"
        raise ValueError(told) from None
    if parts.scheme not in schemes:
        raise ValueError(f"must begin with {wanted}")
    if not parts.hostname:
        raise ValueError(f"must begin with {wanted} and name a host")
    if parts.username is not None or parts.password is not None:
        raise ValueError("must not contain credentials")
    if port == 0:
        raise ValueError("has a port that is no number from 1 to 65535")
    return parts


def secret_in(path: Path) -> str:
    """The first line of a file.

    Raises:
        ValueError: It cannot be read, is not text, or has no first line; the message says which.
    """
    try:
        with path.open("rb") as file:
            line = file.readline(MAX_SECRET_BYTES + 1)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    if len(line) > MAX_SECRET_BYTES:
        raise ValueError(f"{path}: its first line is no secret, it has more than {MAX_SECRET_BYTES} bytes")
    try:
        secret = line.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not UTF-8") from None
    if not secret:
        raise ValueError(f"{path} is empty, or its first line is")
    return secret
