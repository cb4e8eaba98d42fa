"""Nothing private ever gets a cloud candidate, whatever happens around it."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from broker.core.lease import Priority
from broker.routing.capability import tokens_of
from broker.routing.decision import Route
from broker.routing.fallback import following
from broker.routing.privacy.sessions import PrivateSessions
from broker.routing.request.answer_form import AnswerForm
from broker.routing.request.effort import Effort
from broker.routing.request.nature import nature_of
from broker.routing.request.purpose import Purpose, Task
from broker.routing.request.request import UNREAD, Content, Described, Image, RequestKind
from broker.routing.route import RouteState
from broker.routing.speeds import Speed
from broker.routing.variants import ModelState
from tests.fakes.routing_cases import router_of
from tests.searching import examples

ROUTER = router_of()
NAMES = [*sorted(ROUTER.table.entries), "gpt-4o", "gpt-5", "claude-opus-4-6"]
MODELS = sorted(
    {v.name for entry in ROUTER.table.entries.values() for c in entry.candidates for v in getattr(c, "variants", ())}
)
PRIVATE_TEXTS = (
    "my ghp_token",
    "open ~/.ssh/id_rsa",
    "password: hunter22",
    "Project Kestrel",
    "a screenshot",
    "/home/anna/x",
)
SESSIONS = [f"s{number}" for number in range(4)]
IDLE_S = 100.0

MODEL_STATES = [
    ModelState(ready=ready, wait_s=wait_s, busy=busy)
    for ready in (True, False)
    for wait_s in (0, 3, 40, 300, None)
    for busy in (False, False, True)
]

thorough = examples(200)

natures = {
    "tool_calls": st.sampled_from((0, 2, 3, 25)),
    "form": st.sampled_from((AnswerForm(), AnswerForm(depth=2, is_given=True), AnswerForm(depth=5, is_given=True))),
    "effort": st.none() | st.sampled_from(Effort),
    "purpose": st.sampled_from((Purpose(), Purpose(question="Classify this"), Purpose(question="Write a function"))),
}
harmless = st.builds(
    Content,
    texts=st.just(("hello", "read the manual")),
    prompt_tokens=st.integers(0, 10_000),
    reply_tokens=st.none() | st.integers(1, 1000),
    **natures,
)
contents = st.builds(
    Content,
    pictured=st.booleans(),
    **natures,
    texts=st.lists(st.sampled_from(("hello", "read the manual", *PRIVATE_TEXTS)), max_size=3).map(tuple),
    images=st.lists(st.builds(Image, marked=st.booleans()), max_size=2).map(tuple),
    tools=st.integers(0, 40),
    structured=st.booleans(),
    prompt_tokens=st.integers(0, 300_000),
    reply_tokens=st.none() | st.integers(1, 50_000),
    hidden=st.sampled_from(("", "", "", "file")),
)
going_out = st.builds(
    Described,
    name=st.sampled_from(
        ("auto", "patient", "outside", "cloud/best", "cloud/mid", "talk", "home", "sofa", "quick", "prompt", "gpt-4")
    ),
    kind=st.just(RequestKind.CHAT),
    content=harmless,
    deadline_s=st.none() | st.floats(0.5, 500),
    task=st.none() | st.sampled_from(Task),
)
"""Most of these have a cloud candidate, unless their session is private."""
requests = going_out | st.builds(
    Described,
    name=st.sampled_from(NAMES),
    kind=st.sampled_from(RequestKind),
    content=harmless | contents,
    size_bytes=st.sampled_from((1000, 1000, 1000, 10**8)),
    key_private=st.sampled_from((False, False, True)),
    header_private=st.sampled_from((False, False, True)),
    deadline_s=st.none() | st.floats(0.5, 500),
    priority=st.sampled_from(Priority),
    task=st.none() | st.sampled_from(Task),
    usual_task=st.none() | st.sampled_from(Task),
    quantisations=st.sampled_from(((), (), ("q4",), ("q2",))),
)
states = st.builds(
    RouteState,
    models=st.dictionaries(st.sampled_from(MODELS), st.sampled_from(MODEL_STATES), max_size=3),
    free_mib=st.sampled_from((0, 8000, 48_000)),
    open_breakers=st.just(frozenset()) | st.sets(st.sampled_from(("acme", "bolt", "delta", "laptop"))).map(frozenset),
    allowance_micro=st.none() | st.integers(-5, 10**6),
    speeds=st.dictionaries(
        st.sampled_from((*MODELS, "cloud/mid", "cloud/alt")),
        st.builds(Speed, first_s=st.none() | st.floats(0, 9), tokens_per_s=st.none() | st.floats(0.1, 500)),
        max_size=3,
    ),
)
steps = st.tuples(
    st.sampled_from(SESSIONS),
    requests,
    states,
    st.lists(st.tuples(states, st.booleans()), max_size=3),
    st.floats(0, IDLE_S / 2),
)


def is_private(request: Described) -> bool:
    """A second writing-down of the marks that the drawn requests can bear.

    What no upstream takes is not looked into: it stays here, and says nothing of its session.
    """
    content = request.content.read()
    flagged = request.key_private or request.header_private or request.name in {"diary", "therapy", "everything"}
    judged = bool(content.hidden) or any(image.marked for image in content.images) or request.size_bytes > 2**23
    return flagged or (request.kind not in UNREAD and (judged or any(text in PRIVATE_TEXTS for text in content.texts)))


def with_session(state: RouteState, *, private: bool) -> RouteState:
    return replace(state, session_private=private)


@thorough
@given(st.lists(steps, max_size=6))
def test_no_sequence_of_states_sends_a_private_request_or_session_out(sequence):
    """As the gateway does it: judge, mark, try one choice after the other while the world changes.

    Every session is seen again before it has been idle for too long; the memory for names holds two of four sessions.
    """
    sessions = PrivateSessions(limit=2, idle_s=IDLE_S * (len(sequence) + 1))
    once: set[str] = set()
    now_s = 0.0
    for session, request, state, later, pause_s in sequence:
        now_s += pause_s
        decision = ROUTER.route(request, with_session(state, private=sessions.is_private(session, now_s)))
        if decision.private:
            sessions.mark(session, now_s)
        if is_private(request):
            once.add(session)
        if session in once or request.kind in UNREAD:
            assert all(choice.route is not Route.CLOUD for choice in decision.choices)
        tried = []
        for then, another_makes_it_private in later:
            if another_makes_it_private:
                sessions.mark(session, now_s)
                once.add(session)
            choice = following(decision, tried, with_session(then, private=sessions.is_private(session, now_s)))
            if choice is None:
                break
            tried.append(choice)
            assert choice.route is not Route.CLOUD or session not in once


MARKS = {
    "key": lambda request: replace(request, key_private=True),
    "header": lambda request: replace(request, header_private=True),
    "alias": lambda request: replace(request, name="therapy"),
    "alias of a private model": lambda request: replace(request, name="everything"),
    "large": lambda request: replace(request, size_bytes=10**8),
    "hidden": lambda request: replace(request, content=replace(request.content, hidden="file")),
    "picture": lambda request: replace(
        request, content=replace(request.content, images=(Image(), Image(marked=True), Image()))
    ),
    **{
        text: lambda request, text=text: replace(
            request, content=replace(request.content, texts=(*request.content.texts, text, "and more"))
        )
        for text in PRIVATE_TEXTS
    },
}


@thorough
@given(going_out, states, st.sampled_from(sorted(MARKS)))
def test_one_mark_is_enough(request, state, mark):
    decision = ROUTER.route(MARKS[mark](request), state)
    assert decision.private
    assert all(choice.route is not Route.CLOUD for choice in decision.choices)


@thorough
@given(going_out, st.floats(min_value=10, max_value=500))
def test_without_a_mark_it_may_go_out(request, deadline_s):
    """Else the tests above would say nothing."""
    decision = ROUTER.route(replace(request, deadline_s=deadline_s), RouteState())
    assert decision.private is None
    assert decision.route is (Route.INSIDE if request.name in {"home", "sofa"} else Route.CLOUD)


@thorough
@given(going_out, states, st.sampled_from(sorted(MARKS.keys() - {"picture"})))
def test_what_is_private_may_go_to_a_server_of_ones_own(request, state, mark):
    request = MARKS[mark](replace(request, name="home", deadline_s=None))
    decision = ROUTER.route(request, replace(state, open_breakers=frozenset()))
    assert request.name != "home" or "laptop/chat" in [choice.model for choice in decision.choices]


@thorough
@given(requests, states)
def test_the_same_picture_gives_the_same_decision(request, state):
    assert ROUTER.route(request, state) == ROUTER.route(request, state)


@thorough
@given(requests, states)
def test_every_candidate_is_a_choice_or_passed_over(request, state):
    decision = ROUTER.route(request, state)
    entry = ROUTER.table.find(request.name)
    entry = entry.meant(nature_of(request, entry.task))
    assert len(decision.choices) + len(decision.passed_over) == len(entry.candidates)
    assert decision.choices or decision.route is Route.REFUSED


@thorough
@given(requests, states)
def test_no_choice_is_too_short_too_dear_or_down(request, state):
    decision = ROUTER.route(request, state)
    clouds = {one.name: one for one in ROUTER.table.find(request.name).candidates}
    for choice in decision.choices:
        if choice.route is Route.LOCAL:
            assert choice.model in state.models
            continue
        cloud = clouds[choice.model]
        tokens = tokens_of(request.content.read(), request.kind, cloud)
        assert tokens <= cloud.abilities.context_tokens
        assert choice.upstream not in state.open_breakers
        assert state.allowance_micro is None or choice.reserve_micro <= max(0, state.allowance_micro)


@thorough
@given(requests, states)
def test_what_is_in_time_comes_before_what_is_late(request, state):
    lates = [choice.late for choice in ROUTER.route(request, state).choices]
    assert lates == sorted(lates)


@thorough
@given(requests, states)
def test_a_busy_gpu_changes_nothing_for_what_may_not_leave(request, state):
    """Nor does a line that is longer than it may be, unless there is a server of one's own."""
    private = replace(request, header_private=True)
    idle = replace(state, models={name: replace(one, busy=False) for name, one in state.models.items()})
    busy = replace(state, models={name: replace(one, busy=True) for name, one in state.models.items()})
    before, after = (ROUTER.route(private, one) for one in (idle, busy))
    assert all(choice.route is not Route.CLOUD for choice in after.choices)
    if all(choice.route is Route.LOCAL for choice in before.choices):
        assert [choice.model for choice in before.choices] == [choice.model for choice in after.choices]
        assert after.busy_wait_s is None
    assert (before.private, before.rule) == (after.private, after.rule)


@thorough
@given(requests, states)
def test_who_serves_is_one_of_those_that_the_name_leads_to(request, state):
    """Whatever its rules say: what is known of a name (may it leave, is it private, who must be read) holds for all."""
    entry = ROUTER.table.find(request.name)
    variants = {v.name for one in entry.candidates for v in getattr(one, "variants", ())}
    names = variants | {one.name for one in entry.candidates}
    assert {choice.model for choice in ROUTER.route(request, state).choices} <= names
