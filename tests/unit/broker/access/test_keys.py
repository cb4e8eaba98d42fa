"""API keys, scopes, rates, ownership."""

import base64

import pytest

from broker.access.keys import ApiKey, Authenticator, Bucket, credential_of, digest, new_key
from broker.access.principals import NotAllowedError, Principal, Scope
from broker.protocol.client_side import REQUEST
from broker.protocol.errors import InvalidError, RateLimitedError, UnauthorisedError

ONE = Principal(name="one", scopes=frozenset({Scope.LEASE}))
ROOT = Principal(name="root", scopes=frozenset({Scope.ADMIN}))


def authenticator(*keys: ApiKey, anonymous: Principal | None = None, now: list[float] | None = None) -> Authenticator:
    moment = now or [0.0]
    return Authenticator(keys, anonymous=anonymous, clock=lambda: moment[0])


def test_a_new_key_is_known_by_its_hash_only():
    secret, hashed = new_key()
    assert secret.startswith("hsk_")
    assert hashed == digest(secret)
    known = authenticator(ApiKey(principal=ONE, sha256=hashed))
    assert known.identify(b"Bearer " + secret.encode()) is ONE
    assert known.identify(b"bearer  " + secret.encode()) is ONE


@pytest.mark.parametrize("value", [None, b"", b"Bearer", b"Bearer wrong", b"Basic b25lOng=", b"Bearer " + b"x" * 9999])
def test_what_is_not_a_known_key_is_refused(value):
    known = authenticator(ApiKey(principal=ONE, sha256=digest("hsk_one")))
    with pytest.raises(UnauthorisedError):
        known.identify(value)


def test_anonymous_callers_enter_only_where_they_may_and_wrong_keys_never():
    known = authenticator(anonymous=ROOT)
    assert known.identify(None) is ROOT
    with pytest.raises(UnauthorisedError):
        known.identify(b"Bearer " + new_key()[0].encode())


OURS = new_key()[0].encode()


@pytest.mark.parametrize(
    "header",
    [
        b"Bearer any text will do",
        b"Bearer hsk_...",
        b"Bearer sk-team2",
        b"Bearer undefined",
        b"sk-123",
        b"Basic dTpw",
        b"Basic !",
        b"Digest username=x",
        b"Bearer " + b"x" * 4000,
    ],
)
def test_what_stands_where_a_key_must_stand_is_none_to_an_anonymous_broker(header):
    known = authenticator(ApiKey(principal=ONE, sha256=digest("sk-team")), anonymous=ROOT)
    assert known.identify(header) is ROOT
    with pytest.raises(UnauthorisedError):
        authenticator(ApiKey(principal=ONE, sha256=digest("sk-team"))).identify(header)


@pytest.mark.parametrize(
    "header",
    [b"Bearer " + OURS, OURS, b"Token " + OURS, b"Basic " + base64.b64encode(b"x:" + OURS)],
    ids=["bearer", "bare", "token", "basic"],
)
def test_what_was_meant_to_be_a_key_of_ours_is_never_none(header):
    with pytest.raises(UnauthorisedError):
        authenticator(anonymous=ROOT).identify(header)


def test_a_known_key_is_known_to_an_anonymous_broker_too():
    known = authenticator(ApiKey(principal=ONE, sha256=digest("sk-team")), anonymous=ROOT)
    assert known.identify(b"Bearer sk-team") is ONE


def request(*headers: tuple[bytes, bytes], is_page: bool = False) -> dict:
    return {"headers": headers, "extensions": {REQUEST: {"is_page": is_page}}}


def given(authorization: bytes, *, is_page: bool = False) -> dict:
    return request((b"authorization", authorization), is_page=is_page)


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"authorization", b"")],
        [(b"authorization", b"Bearer")],
        [(b"authorization", b"bearer ")],
        [(b"authorization", b"Bearer \t ")],
        [(b"x-api-key", b"")],
        [(b"x-api-key", b"  ")],
        [(b"authorization", b"Bearer "), (b"x-api-key", b" ")],
    ],
)
def test_a_key_that_was_left_empty_is_no_key(headers):
    assert credential_of(request(*headers)) is None
    assert authenticator(anonymous=ROOT).caller(request(*headers)) is ROOT
    with pytest.raises(UnauthorisedError, match="send an API key"):
        authenticator(ApiKey(principal=ONE, sha256=digest("a"))).caller(request(*headers))


def test_the_key_is_taken_from_either_header_and_an_empty_or_made_up_one_does_not_hide_it():
    assert credential_of(request((b"x-api-key", b"k"))) == b"Bearer k"
    assert credential_of(request((b"authorization", b"Bearer"), (b"x-api-key", b"k"))) == b"Bearer k"
    assert credential_of(request((b"authorization", b"Bearer a"), (b"x-api-key", b"k"))) == b"Bearer a"
    assert credential_of(request((b"authorization", b"Bearer x"), (b"x-api-key", OURS))) == b"Bearer " + OURS
    with pytest.raises(InvalidError):
        credential_of(request((b"authorization", b"Bearer a"), (b"authorization", b"Bearer b")))


def test_scopes_are_held():
    known = authenticator(ApiKey(principal=ONE, sha256=digest("a")), ApiKey(principal=ROOT, sha256=digest("b")))
    assert known.caller_with(given(b"Bearer a"), Scope.LEASE) is ONE
    with pytest.raises(NotAllowedError):
        known.caller_with(given(b"Bearer a"), Scope.OPERATE)
    assert known.caller_with(given(b"Bearer b"), Scope.OPERATE) is ROOT


def test_a_page_is_no_operator_without_a_key_and_whatever_its_key_says_with_one():
    page = Principal(name="page", scopes=frozenset({Scope.LEASE}))
    operator = Principal(name="operator", scopes=frozenset({Scope.OPERATE}))
    keys = [ApiKey(principal=operator, sha256=digest("b"))]
    known = Authenticator(keys, anonymous=ROOT, page=page, clock=lambda: 0.0)
    for header in (b"", b"Bearer", b"Bearer any text"):
        assert known.caller(given(header, is_page=True)) is page
        assert known.caller(given(header)) is ROOT
        with pytest.raises(NotAllowedError, match="web page without an API key"):
            known.caller_with(given(header, is_page=True), Scope.OPERATE)
    assert known.caller_with(given(b"Bearer b", is_page=True), Scope.OPERATE) is operator
    assert not page.owns("anonymous")


def test_a_rate_refuses_and_says_for_how_long():
    now = [0.0]
    known = authenticator(ApiKey(principal=ONE, sha256=digest("a"), rate_per_s=2), now=now)
    for _ in range(4):
        known.identify(b"Bearer a")
    with pytest.raises(RateLimitedError) as caught:
        known.identify(b"Bearer a")
    assert caught.value.retry_after_s == 1
    now[0] += 0.5
    known.identify(b"Bearer a")


def test_a_slow_bucket_still_gives_one():
    bucket = Bucket(0.1, 0.0)
    assert bucket.take(0.0) == 0
    assert bucket.take(0.0) == pytest.approx(10)


def test_owners_are_the_key_its_publisher_and_admins():
    assert ONE.owns("one")
    assert ONE.owns("ingress:one")
    assert not ONE.owns("two")
    assert not ONE.owns("ingress:two")
    assert ROOT.owns("two")
