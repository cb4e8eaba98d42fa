"""Whose turn it is, beside a second writing-down of the rule."""

from hypothesis import given
from hypothesis import strategies as st

from broker.core.lease import LeaseId
from broker.pool.records.ordering import QueueHead, next_ticket

NOW_MS = 100_000
HEADS = st.lists(
    st.tuples(st.integers(0, 3), st.integers(1, 20), st.integers(NOW_MS - 1000, NOW_MS)),
    max_size=4,
    unique_by=lambda head: head[0],
)


def heads_of(drawn):
    return [QueueHead(rank, arrival, enq, LeaseId(f"L{rank}")) for rank, arrival, enq in drawn]


@given(HEADS, st.integers(0, 25), st.tuples(*[st.integers(1, 3000)] * 4))
def test_the_overdue_by_arrival_then_the_most_urgent_class(drawn, admit, waits):
    heads = [head for head in heads_of(drawn) if head.arrival < admit]
    chosen = next_ticket(heads_of(drawn), admit=admit, now_ms=NOW_MS, max_wait_ms=waits)
    late = [head for head in heads if NOW_MS - head.enq_ms >= waits[head.rank]]
    if not heads:
        assert chosen is None
    elif late:
        assert chosen in late
        assert chosen.arrival == min(head.arrival for head in late)
    else:
        assert chosen.rank == min(head.rank for head in heads)


@given(HEADS, st.integers(0, 25))
def test_the_order_of_the_heads_does_not_matter(drawn, admit):
    waits = (500,) * 4
    arrivals = {head.arrival for head in heads_of(drawn)}
    if len(arrivals) == len(drawn):
        there, back = heads_of(drawn), heads_of(drawn)[::-1]
        words = {"admit": admit, "now_ms": NOW_MS, "max_wait_ms": waits}
        assert next_ticket(there, **words) == next_ticket(back, **words)


def test_of_two_overdue_the_first_to_arrive_goes_whatever_its_class():
    heads = heads_of([(0, 9, 0), (3, 4, 0)])
    chosen = next_ticket(heads, admit=99, now_ms=NOW_MS, max_wait_ms=(1000,) * 4)
    assert chosen is heads[1]


def test_of_two_in_time_the_more_urgent_goes():
    heads = heads_of([(2, 4, NOW_MS), (1, 9, NOW_MS)])
    chosen = next_ticket(heads, admit=99, now_ms=NOW_MS, max_wait_ms=(1000,) * 4)
    assert chosen is heads[1]
