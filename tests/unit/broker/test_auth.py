"""API keys, scopes, rates, ownership."""

import pytest

from broker.api.auth import MAX_HEADER, ApiKey, Authenticator, Bucket, digest, new_key
from broker.api.problems import RateLimitedError, UnauthorisedError
from broker.principals import NotAllowedError, Principal, Scope

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


def test_what_stands_where_a_key_must_stand_is_none_to_an_anonymous_broker():
    known = authenticator(ApiKey(principal=ONE, sha256=digest("sk-team")), anonymous=ROOT)
    for text in (b"any text will do", b"hsk_...", b"sk-team2"):
        assert known.identify(b"Bearer " + text) is ROOT
    for header in (b"Bearer", b"Bearer ", b"Basic eDp5", b"Bearer " + b"x" * MAX_HEADER):
        with pytest.raises(UnauthorisedError):
            known.identify(header)
    assert known.identify(b"Bearer sk-team") is ONE
    with pytest.raises(UnauthorisedError):
        authenticator(ApiKey(principal=ONE, sha256=digest("sk-team"))).identify(b"Bearer any text will do")


def test_scopes_are_held():
    known = authenticator(ApiKey(principal=ONE, sha256=digest("a")), ApiKey(principal=ROOT, sha256=digest("b")))
    assert known.principal(b"Bearer a", Scope.LEASE) is ONE
    with pytest.raises(NotAllowedError):
        known.principal(b"Bearer a", Scope.OPERATE)
    assert known.principal(b"Bearer b", Scope.OPERATE) is ROOT


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
