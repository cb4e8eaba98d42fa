"""What looking through a request may cost: counted, bounded, in proportion."""

import json
from itertools import pairwise

import pytest

from broker.gateway.requests.inspection import InspectionThreads
from broker.routing.privacy.firewall import Because, Firewall
from broker.routing.request.contents import UnreadContent, content_of
from broker.routing.request.request import Described, RequestKind
from broker.routing.text.work import SLICE, Work

MIB = 1024 * 1024
FIREWALL = Firewall(find_secret=lambda _: False, look_through_bytes=MIB)
LIMIT = 4 * FIREWALL.look_through_bytes + MIB


def chat(content: object, size: int) -> bytes:
    """A body of about so many bytes, of the same piece again and again."""
    piece = len(json.dumps(content))
    if isinstance(content, str):
        content = content * (size // len(content))
    elif isinstance(content, list):
        content = content * (size // (piece + 2))
    return json.dumps({"model": "a", "messages": [{"role": "user", "content": content}]}).encode()


def looked(body: bytes, work: Work) -> Because | None:
    request = Described(
        name="a",
        kind=RequestKind.CHAT,
        content=UnreadContent(RequestKind.CHAT, body, work),
        size_bytes=len(body),
        work=work,
    )
    return FIREWALL.because(request, session_private=False, name_private=False)


HOSTILE = {
    "one-letter parts": [{"type": "text", "text": "a"}],
    "one-letter strings": ["a"],
    "objects": [{"type": "text", "text": {}}],
    "numbers": [{"type": "text", "metadata": [1, 2, 3]}],
    "names": "token is ",
    "values": "pass=",
    "addresses": "://a:",
    "runs": "A" * 15 + "B ",
    "words": "screen ",
    "tildes": "~",
    "data URLs": "data:a/b;base64,QUFB ",
    "connections": "user=a;",
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_whatever_costs_more_than_the_limit_is_private_and_ends_there(content):
    work = InspectionThreads(FIREWALL.look_through_bytes).work(0)
    assert looked(chat(content, MIB - 1000), work) in {Because.COSTLY, Because.HIDDEN}
    assert work.spent <= 3 * LIMIT, "what it would have cost, not what was done: the last step is counted and not taken"


def test_seven_mebibytes_of_one_letter_parts_cost_what_the_limit_is():
    firewall = Firewall(find_secret=lambda _: False)
    body, work = chat([{"type": "text", "text": "a"}], 7 * MIB), InspectionThreads(firewall.look_through_bytes).work(0)
    request = Described(name="a", kind=RequestKind.CHAT, content=UnreadContent(RequestKind.CHAT, body, work), work=work)
    assert firewall.because(request, session_private=False, name_private=False) is Because.COSTLY
    assert work.spent < 4 * firewall.look_through_bytes + 2 * MIB


def test_a_plain_text_of_the_largest_size_is_looked_through():
    prose = "A lease is asked for, and the answer says what is held and until when; who waits is told. "
    work = Work(LIMIT)
    assert looked(chat(prose, MIB - 200), work) is None
    assert work.spent < LIMIT


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_twice_as_much_costs_twice_as_much(content):
    spent = []
    for size in (50_000, 100_000):
        work = Work()
        looked(chat(content, size), work)
        spent.append(work.spent)
    assert spent[1] < 2.2 * spent[0]


def test_what_parts_say_together_is_read_twice_at_most():
    parts = [{"type": "text", "text": "ab "}] * 10_000
    content = content_of(RequestKind.CHAT, json.dumps({"messages": [{"role": "user", "content": parts}]}).encode())
    assert [len(text) for text in content.texts if "ab ab" in text] == [30_000]


def test_what_cost_too_much_to_read_is_counted_all_the_same():
    content = content_of(RequestKind.CHAT, chat([{"type": "text", "text": "a"}], 100_000), Work(1000))
    assert content.hidden == Because.COSTLY
    assert content.prompt_tokens > 20_000


def test_many_accents_on_one_letter_cost_no_square():
    work = Work()
    assert looked(chat("a\u0315\u0300\u0327\u200b", 100_000), work) is None
    assert work.spent < 2_000_000


def test_others_get_their_turn_after_every_slice():
    turns = []
    work = Work(pause=lambda: turns.append(work.spent))
    looked(chat(["so many words " * 300], MIB - 1000), work)
    assert len(turns) > 0.8 * work.spent / SLICE
    assert all(later - earlier < 1.5 * SLICE for earlier, later in pairwise(turns))
