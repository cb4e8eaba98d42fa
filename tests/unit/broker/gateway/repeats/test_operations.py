"""Answers kept for an ``Idempotency-Key``: bounded, each caller's own, and what makes two requests the same."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.core.errors import BadArgumentError, OperationMismatchError
from broker.gateway.repeats.operations import MAX_ANSWER, Operations, digest_of, operation_of
from broker.gateway.repeats.recording import OVERHEAD

JSON = {b"content-type": b"application/json"}
ANN, BEN = ("ann", ""), ("ben", "")


def message(size: int) -> dict[str, object]:
    return {"type": "http.response.body", "body": bytes(size)}


async def kept(operations: Operations, owner: tuple[str, str], operation: str, size: int) -> None:
    recording = operations.begin(owner, operation, b"d")
    await recording.send(message(size))
    operations.end(owner, operation, recording, is_good=True)


def of(max_bytes: int) -> Operations:
    return Operations(kept_s=60.0, max_bytes=max_bytes)


async def test_who_keeps_most_loses_its_oldest_and_nobody_elses():
    operations = of(10 * OVERHEAD)
    await kept(operations, BEN, "only", 100)
    for number in range(50):
        await kept(operations, ANN, f"{number}", 100)
    assert operations.find(BEN, "only", b"d")
    assert operations.find(ANN, "49", b"d")
    assert operations.find(ANN, "0", b"d") is None
    assert operations.size <= 10 * OVERHEAD


async def test_a_large_answer_drives_out_its_callers_own():
    operations = of(OVERHEAD * 40)
    await kept(operations, BEN, "small", 100)
    for number in range(5):
        await kept(operations, ANN, f"{number}", 20 * OVERHEAD)
    assert operations.find(BEN, "small", b"d")
    assert [number for number in range(5) if operations.find(ANN, f"{number}", b"d")] == [4]


async def test_what_one_has_in_flight_takes_no_room_from_others():
    operations = of(10 * OVERHEAD)
    running = [operations.begin(ANN, f"{number}", b"d") for number in range(12)]
    await kept(operations, BEN, "small", 100)
    for recording in running:
        await recording.send(message(100))
    assert operations.find(BEN, "small", b"d")
    assert operations.find(ANN, "0", b"d") is None


async def test_what_is_too_large_is_not_kept_and_leaves_nothing():
    operations = of(10 * MAX_ANSWER)
    await kept(operations, ANN, "x", MAX_ANSWER + 1)
    assert operations.find(ANN, "x", b"d") is None
    assert operations.size == 0


async def test_a_key_stands_for_one_request_of_one_caller():
    operations = of(MAX_ANSWER)
    recording = operations.begin(ANN, "x", b"d")
    assert operations.find(ANN, "x", b"d") is recording
    assert operations.find(BEN, "x", b"d") is None
    assert operations.find(ANN, "y", b"d") is None
    with pytest.raises(OperationMismatchError):
        operations.find(ANN, "x", b"other")
    operations.end(ANN, "x", recording, is_good=False)
    assert operations.find(ANN, "x", b"other") is None


async def test_one_that_was_given_up_does_not_stand_in_the_way():
    operations = of(MAX_ANSWER)
    old = operations.begin(ANN, "x", b"d")
    old.give_up()
    assert operations.find(ANN, "x", b"d") is None
    new = operations.begin(ANN, "x", b"d")
    operations.end(ANN, "x", old, is_good=False)
    assert operations.find(ANN, "x", b"d") is new
    operations.end(ANN, "x", new, is_good=False)
    assert operations.size == 0


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["begin", "send", "end", "fail"]),
        st.sampled_from([ANN, BEN]),
        st.sampled_from("xyz"),
        st.integers(0, 3 * OVERHEAD),
    ),
    max_size=40,
)


@given(STEPS)
def test_what_is_counted_is_what_is_there_and_within_the_bound_once_all_is_over(steps):
    async def walk() -> None:
        operations = of(6 * OVERHEAD)
        running = []
        for what, owner, operation, size in steps:
            at = next((one for one in running if one[:2] == (owner, operation)), None)
            if what == "begin":
                if operations.find(owner, operation, b"d") is None:
                    running.append((owner, operation, operations.begin(owner, operation, b"d")))
            elif at is not None and what == "send":
                await at[2].send(message(size))
            elif at is not None:
                running.remove(at)
                operations.end(*at, is_good=what == "end")
        for owner, operation, recording in running:
            operations.end(owner, operation, recording, is_good=True)
        there = {
            id(one): one.size for owner in (ANN, BEN) for key in "xyz" if (one := operations.find(owner, key, b"d"))
        }
        assert operations.size == sum(there.values()) <= 6 * OVERHEAD

    asyncio.run(walk())


@pytest.mark.parametrize("key", [b"", b"x" * 129, b"a b", b"\xc3\xbc", b"a\tb"])
def test_a_key_is_short_and_printable(key):
    with pytest.raises(BadArgumentError):
        operation_of({b"idempotency-key": key})


def test_no_header_is_no_key():
    assert operation_of({}) == ""


def form(boundary: str, text: str = "hello") -> tuple[dict[bytes, bytes], bytes]:
    headers = {b"content-type": f"multipart/form-data; boundary={boundary}".encode()}
    part = f'--{boundary}\r\ncontent-disposition: form-data; name="model"\r\n\r\n{text}\r\n--{boundary}--\r\n'
    return headers, part.encode()


def test_a_forms_boundary_is_no_part_of_what_is_asked():
    assert digest_of("/a", *form("one")) == digest_of("/a", *form("another"))
    assert digest_of("/a", *form("one")) != digest_of("/a", *form("one", "other"))


@pytest.mark.parametrize(
    "target, headers, body",
    [
        ("/b", JSON, b"{}"),
        ("/a?beta=true", JSON, b"{}"),
        ("/a", JSON, b"{ }"),
        ("/a", {b"content-type": b"text/plain"}, b"{}"),
        ("/a", JSON | {b"x-hotseat-validate": b"strict"}, b"{}"),
        ("/a", JSON | {b"anthropic-beta": b"x"}, b"{}"),
    ],
)
def test_what_changes_the_answer_makes_another_request(target, headers, body):
    assert digest_of(target, headers, body) != digest_of("/a", JSON, b"{}")


@pytest.mark.parametrize("header", [b"x-stainless-retry-count", b"x-request-id", b"traceparent", b"user-agent"])
def test_what_a_retry_changes_does_not(header):
    assert digest_of("/a", JSON | {header: b"1"}, b"{}") == digest_of("/a", JSON, b"{}")
