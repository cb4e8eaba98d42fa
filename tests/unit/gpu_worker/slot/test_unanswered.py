"""When a worker says that nobody answers it, and what."""

from gpu_worker.slot.unanswered import AGAIN_S, Unanswered

WHERE = "redis://store:6379/1, pool 'other'"


def one():
    return Unanswered(store=WHERE)


def test_a_worker_that_nobody_knows_says_where_it_looks_and_what_must_agree():
    waiting = one()
    assert waiting.waits(100.0, "") == ""
    assert waiting.waits(109.9, "") == ""
    said = waiting.waits(110.0, "")
    assert WHERE in said
    assert "for 10 s" in said
    assert "url (with the number of the database) and pool of [store] must be the brokers' own" in said


def test_it_is_said_again_after_a_while_only():
    waiting = one()
    waiting.waits(0.0, "")
    assert waiting.waits(10.0, "")
    assert not waiting.waits(9.9 + AGAIN_S, "")
    assert waiting.waits(10.0 + AGAIN_S, "")


def test_a_slot_that_a_broker_knew_asks_for_the_broker():
    waiting = one()
    waiting.waits(0.0, "inc")
    assert "is one running there?" in waiting.waits(10.0, "inc")


def test_an_answer_ends_it():
    waiting = one()
    waiting.waits(0.0, "")
    assert not waiting.answered()
    waiting.waits(20.0, "")
    assert waiting.waits(30.0, "")
    assert waiting.answered()
    assert waiting.waits(100.0, "") == ""
