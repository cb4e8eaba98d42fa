"""By what a request is known that comes back to its place in line."""

import httpx
import pytest

from broker.gateway.requests.return_keys import fingerprint

PATH = "/audio/transcriptions"


def form(clip=b"RIFF", model="whisper"):
    """As a library sends it: with a boundary made up for this try."""
    sent = httpx.Request("POST", "http://broker", data={"model": model}, files={"file": ("a.wav", clip)})
    return sent.read(), sent.headers["content-type"].encode()


def test_a_retry_of_a_form_is_known_though_its_boundary_is_new():
    first, again = form(), form()
    assert first != again
    assert fingerprint("anna", PATH, *first) == fingerprint("anna", PATH, *again)


@pytest.mark.parametrize("other", [{"clip": b"RIFX"}, {"model": "other"}])
def test_another_form_is_not_the_same(other):
    assert fingerprint("anna", PATH, *form()) != fingerprint("anna", PATH, *form(**other))


@pytest.mark.parametrize("other", [("ben", PATH, b"{}"), ("anna", "/embeddings", b"{}"), ("anna", PATH, b"{ }")])
def test_who_asks_where_and_what_all_count(other):
    assert fingerprint("anna", PATH, b"{}", b"application/json") != fingerprint(*other, b"application/json")
