"""Mistakes we could make, as text replacements, and the tests that must notice each."""

from dataclasses import dataclass

STORE = "tests/contract/store"
LEASES, SLOTS, INGRESS = f"{STORE}/test_leases.py", f"{STORE}/test_slots.py", f"{STORE}/test_ingress.py"
OUTSIDE = f"{STORE}/test_outside.py"
POLICY = tuple(f"tests/unit/broker/core/test_{name}.py" for name in ("policy", "policy_moments", "turns"))
LUA = "broker/store/lua"
GUARD, CUTS = "tests/unit/broker/test_guard.py", "tests/property/test_request_cuts.py"
ANSWERS = ("tests/unit/broker/answers", "tests/property/test_suspicion.py", "tests/property/test_deaths.py")


@dataclass(frozen=True)
class Mutant:
    """One mistake."""

    name: str
    file: str
    old: str
    """Occurs exactly once in the file."""
    new: str
    tests: tuple[str, ...]
    """Arguments of pytest; at least one of these tests must fail."""


def lua(name: str, file: str, old: str, new: str, *tests: str) -> Mutant:
    """A mistake in the library: the suite's Valkey column must notice."""
    return Mutant(name, f"{LUA}/{file}", old, new, (*tests, "-k", "valkey"))


def core(name: str, file: str, old: str, new: str, *tests: str) -> Mutant:
    """A mistake in the Python machine: the suite's memory column must notice."""
    return Mutant(name, f"broker/core/{file}", old, new, (*tests, "-k", "memory"))


def policy(name: str, file: str, old: str, new: str) -> Mutant:
    """A mistake in what is decided."""
    return Mutant(name, f"broker/core/{file}", old, new, POLICY)


def api(name: str, file: str, old: str, new: str, *tests: str) -> Mutant:
    """A mistake in front of the routes."""
    return Mutant(name, f"broker/api/{file}", old, new, tests)


def answers(name: str, file: str, old: str, new: str) -> Mutant:
    """A mistake in what an answer, or the death of a server, is taken for."""
    return Mutant(name, f"broker/answers/{file}", old, new, ANSWERS)


MUTANTS = (
    # ------------------------------------------------------------------------------------------------ the Lua library
    lua("a lease lives one millisecond too long", "40_leases.lua",
        "c.now >= int(lease.deadline) then", "c.now > int(lease.deadline) then", LEASES),
    lua("tick leaves what is due at this very moment", "40_leases.lua",
        "'-inf', c.now_text, 'LIMIT'", "'-inf', s(c.now - 1), 'LIMIT'", LEASES),
    lua("any nonce is good enough", "40_leases.lua",
        "if nonce ~= nil and lease.nonce ~= nonce then", "if nonce == '' then", LEASES),
    lua("renewing outlasts a preemption", "40_leases.lua",
        "if lease.state == 'active' then\n    put(lease, 'ttl_ms'", "if true then\n    put(lease, 'ttl_ms'", LEASES),
    lua("a preempted lease ends as expired", "40_leases.lua",
        "(was == 'ending' and event == 'expire') and 'preempted'", "false and 'preempted'", LEASES),
    lua("nobody is served when a lease ends", "40_leases.lua",
        "or otherwise, who, why)\n    hand_out(c, lease.model)", "or otherwise, who, why)", LEASES),
    lua("a lease granted in absence need not be claimed", "30_handout.lua",
        "ttl = math.min(ttl, rule(c, 'claim_ttl_ms'))", "ttl = ttl + 0", LEASES),
    lua("one lease more than the limit", "30_handout.lua",
        "if use < limit then", "if use <= limit then", LEASES),
    lua("the limit counts for nothing while handing out is asked twice", "30_handout.lua",
        "add(residency, 'use', 1)", "add(residency, 'use', 0)", LEASES),
    lua("whoever waited too long waits on", "30_handout.lua",
        "return overdue or highest", "return highest", LEASES),
    lua("grants on a slot that is not open", "30_handout.lua",
        "if slot_state(c, slot) == 'open' then", "if slot_state(c, slot) ~= 'offline' then", SLOTS),
    lua("the busiest slot first", "30_handout.lua",
        "if a.use ~= b.use then return a.use < b.use end", "if a.use ~= b.use then return a.use > b.use end", SLOTS),
    lua("an operation key is good for any body", "45_acquire.lua",
        "if body ~= ask.body then refuse('OP_MISMATCH'", "if body == 0 then refuse('OP_MISMATCH'", LEASES),
    lua("an operation that met a live lease is forgotten", "45_acquire.lua",
        "    if ask.op ~= '' and not ask.noted then\n      note_operation(c, ask, lease)",
        "    if ask.op ~= '' and not ask.noted then", LEASES),
    lua("a lost reply makes a second lease", "45_acquire.lua",
        "of_operation(c, ask) or of_id(c, ask) or of_session(c, ask)", "of_operation(c, ask) or of_session(c, ask)",
        LEASES),
    lua("the queue has no end", "45_acquire.lua",
        "if c.queued >= rule(c, 'max_queue') then", "if c.queued < 0 then", LEASES),
    lua("an API key may open what it likes", "45_acquire.lua",
        "if open >= max_open then", "if open > max_open then", LEASES),
    lua("the barrier lets newcomers in", "45_acquire.lua",
        "if int(place.residency.admit) > c.arrival + 1 then", "if int(place.residency.admit) >= 0 then", SLOTS),
    lua("a bad estimate is believed for ever", "45_acquire.lua",
        "'err')) <= TRUSTED_ERROR then", "'err')) >= 0 then", LEASES),
    lua("a clock jump ages every lease", "22_frame.lua",
        "math.min(math.max(c.step, 0), c.max_step)", "math.max(c.step, 0)", LEASES),
    lua("time goes backwards", "22_frame.lua",
        "math.min(math.max(c.step, 0), c.max_step)", "math.min(c.step, c.max_step)", LEASES),
    lua("a copy of the store that was behind is believed", "75_outside.lua",
        "if one.inc ~= c.inc and one.silent_ms < idle_ms then", "if one.inc == 'x' then", OUTSIDE),
    lua("a server that nobody wrote to is believed", "75_outside.lua",
        "if is_another_server(c) then return true end", "if false then return true end", OUTSIDE),
    lua("a mark that is told again lives anew", "75_outside.lua",
        "args[i + 1], c.now - age, limit)", "args[i + 1], c.now, limit)", OUTSIDE),
    lua("whoever did not tell may go", "75_outside.lua", "if told == c.inc then redis.call('HDEL'",
        "if true then redis.call('HDEL'", OUTSIDE),
    lua("whoever marks needs not have told what else he knows", "75_outside.lua",
        "(told == c.inc and c.inc or '')", "c.inc", OUTSIDE),
    lua("a restarted store goes on granting", "22_frame.lua",
        "if is_another_server(c) then recover(c, run_id()) end",
        "if is_another_server(c) and c.run == '' then recover(c, run_id()) end",
        "tests/integration/store/test_faults.py"),
    lua("a generation can come back", "60_slots.lua",
        "math.max(int(slot.gen), whole(report.hw)) + 1", "int(slot.gen) + 1", SLOTS),
    lua("a superseded worker is believed", "60_slots.lua",
        "if has(words(slot.old_boots), report.boot) then return end", "", SLOTS),
    lua("a worker that has not copied the incarnation is registered", "60_slots.lua",
        "if report.inc ~= c.inc then return end", "", SLOTS),
    lua("two hosts take a slot from each other", "60_slots.lua",
        "if is_rival(c, slot, report) then", "if false then", SLOTS),
    lua("a slot whose host has died is kept for it", "60_slots.lua",
        "local lives = slot.state ~= 'offline' and c.now < int(slot.seen) + rule(c, 'silence_ms')",
        "local lives = true", SLOTS),
    lua("any generation of an adopted server will do", "60_slots.lua",
        "or whole(report['gen:' .. model]) ~= int(residency.gen) then return false end", "then return false end",
        SLOTS),
    lua("an old report brings a silent slot back", "60_slots.lua",
        "if slot.state == 'offline' and not fresh then return end", "", SLOTS),
    lua("a cordon is forgotten at registration", "60_slots.lua",
        "if slot.state == 'open' and (slot.wish or '') ~= '' then", "if slot.state == 'x' then", SLOTS),
    lua("a forgotten epoch leaves the worker stuck", "60_slots.lua",
        "unknown or whole(report.epoch) > int(slot.epoch) or", "unknown or", SLOTS),
    lua("an old decision is carried out", "55_orders.lua",
        "if int(slot.gen) ~= gen then", "if int(slot.gen) < gen then", SLOTS),
    lua("a model is evicted under a lease", "55_orders.lua",
        "or int(residency.use) > 0 then", "or int(residency.use) > 99 then", SLOTS),
    lua("models are packed beyond the budget", "55_orders.lua",
        "if used_mib > int(slot.budget_mib) then", "if used_mib > 2 * int(slot.budget_mib) then", SLOTS),
    lua("a failed load is tried again at once", "50_residencies.lua",
        "rule(c, 'load_backoff_ms') * 2 ^ (fails - 1)", "0", SLOTS),
    lua("a load may fail once more than agreed", "50_residencies.lua",
        "if fails >= rule(c, 'max_fails')", "if fails > rule(c, 'max_fails')", SLOTS),
    lua("tickets nobody can serve hang", "50_residencies.lua",
        "reject_waiting(c, name, 'model_quarantined')", "", SLOTS),
    lua("an entry is carried out twice", "70_pool.lua",
        "if ingress_entry(c, id) == nil or (last", "if (last", INGRESS),
    lua("a late message undoes a newer one", "70_pool.lua",
        "(last and whole(sequence) <= int(last))", "(last and whole(sequence) < 0)", INGRESS),
    # ---------------------------------------------------------------------------------------------- the Python machine
    core("a lease lives one millisecond too long (Python)", "pool_leases.py",
         "pool.now >= lease.deadline:", "pool.now > lease.deadline:", LEASES),
    Mutant("overdue tickets by class instead of arrival", "broker/core/ordering.py",
         "return min(overdue, key=lambda head: head.arrival)", "return min(overdue, key=lambda head: head.rank)",
         ("tests/property/test_ordering.py",)),
    core("a barrier for nobody", "ordering.py",
         "if head.arrival < admit]", "if head.arrival <= admit]", SLOTS),
    Mutant("the least urgent first", "broker/core/ordering.py",
         "return min(admitted, key=lambda head: head.rank, default=None)",
         "return max(admitted, key=lambda head: head.rank, default=None)", ("tests/property/test_ordering.py",)),
    core("unclaimed grants hold for ever (Python)", "pool_handout.py",
         "min(lease.ttl_ms, pool.settings.claim_ttl_ms)", "lease.ttl_ms", LEASES),
    core("kept leases do not get their time back", "pool_slots.py",
         "max(lease.deadline, pool.now + lease.ttl_ms)", "lease.deadline", SLOTS),
    core("a young server's death is no failure", "pool_residencies.py",
         "if pool.now - residency.loaded < SURVIVED_MS:", "if pool.now < residency.loaded:", SLOTS),
    core("an evicted model is gone at once", "pool_slots.py",
         'if residency.state is Residency.UNLOADING and state == "absent":',
         "if residency.state is Residency.UNLOADING:", SLOTS),
    # ----------------------------------------------------------------------------------------------------- the policy
    policy("a drained slot keeps its idle models", "policy.py",
           "if slot.state is SlotState.DRAINING:", "if slot.state is SlotState.CORDONED:"),
    policy("a barrier turns away those who waited for the load", "policy.py",
           "admit = ADMIT_ALL if why is None else residency.waited", "admit = ADMIT_ALL if why is None else 0"),
    policy("no look at the moment a ticket gets too old", "policy.py",
           "moments += [queue.oldest_s + max_wait_s[queue.priority]", "moments += [queue.oldest_s + float('inf')"),
    policy("an aged ticket counts as any other", "targets.py",
           "order = (1, 0) if aged is None else (0, aged)", "order = (1, 0)"),
    policy("the least worth first", "targets.py", "return (*order, -self.worth,", "return (*order, self.worth,"),
    policy("a load that somebody waits for is broken off", "targets.py",
           "board.demands[place.loading.model].waiting == 0", "board.demands[place.loading.model].waiting >= 0"),
    policy("the dearest set is given up", "eviction.py",
           "return min(minimal_sets(residents, need_mib), key=price, default=None)",
           "return max(minimal_sets(residents, need_mib), key=price, default=None)"),
    policy("what frees exactly enough is not enough", "eviction.py",
           "for _, r in chosen) >= need_mib and", "for _, r in chosen) > need_mib and"),
    policy("a model goes while it is used", "turns.py",
           "all(r.use == 0 and admissible", "all(r.use >= 0 and admissible"),
    policy("those who waited for a load are passed over", "turns.py",
           "return residency.waiting_below if closed is not None else", "return 0 if closed is not None else"),
    policy("the slice never ends", "turns.py",
           "return Why.SLICE if is_over else None", "return Why.SLICE if False else None"),
    policy("a flood's turn never ends", "turns.py",
           "(board.settings.slice_max_factor - 1.0)", "1e9"),
    policy("a queue that grew behind the barrier buys another slice", "turns.py",
           "ends_s if is_over and why", "ends_s if why"),
    policy("the age bound does not close what is in the way", "turns.py",
           "if target.aged_arrival is not None:", "if target.aged_arrival == -1:"),
    policy("a young lease is exchanged", "turns.py",
           "        if board.now_s + EPSILON_S < ran_until_s:", "        if board.now_s + EPSILON_S < 0:"),
    policy("nobody is asked back after max_hold", "turns.py",
           "        if board.now_s + EPSILON_S >= until_s:", "        if board.now_s < 0:"),
    # ------------------------------------------------------------------------------------------ in front of the routes
    api("any name will do", "guard.py",
        "if host not in self._known_hosts and not self._names.has(host):", "if host is None:", GUARD),
    api("a page that shows no origin is none", "guard.py",
        'if b"origin" in seen or b"sec-fetch-site" in seen:', 'if b"origin" in seen:', GUARD),
    api("pages of other ports of this machine are of the same site", "guard.py",
        'frozenset({b"same-origin", b"none"})', 'frozenset({b"same-origin", b"same-site", b"none"})', GUARD),
    api("a form may be anything in capitals", "guard.py",
        'content_type.partition(b";")[0].strip().lower()', 'content_type.partition(b";")[0].strip()', GUARD),
    api("names that end like ours are ours", "names.py",
        '_PRIVATE_SUFFIXES = (".localhost", ".internal")', '_PRIVATE_SUFFIXES = ("localhost", "internal")', GUARD),
    api("what begins like an origin is one", "origins.py",
        "pattern.fullmatch(text)", "pattern.match(text)", GUARD),
    api("a wanted page is an operator without a key", "auth.py",
        "return self._page or caller", "return caller", "tests/unit/broker/test_auth.py"),
    api("a mistyped key of ours is none", "auth.py",
        "authorization is None or not _may_be_ours(authorization)", "True", "tests/unit/broker/test_auth.py"),
    api("an offer in capitals is seen by the parser", "framing.py",
        'if b"\\r\\nupgrade:" in head.lower():', 'if b"\\r\\nupgrade:" in head or b"\\r\\nUpgrade:" in head:', CUTS),
    api("the parser has more than this body", "framing.py",
        "return min(self._left, len(data))", "return len(data)", CUTS),
    api("an empty line that is cut does not end a body", "framing.py",
        "found = (self._last + data[:3]).find(_END)", "found = -1", CUTS),
    api("trailers are headers", "connections.py",
        "self.headers = []  # what", "pass  # what", "tests/unit/broker/test_connections.py"),
    api("the next request is begun while one is answered", "whole_requests.py",
        "            self._stage = _AHEAD\n            return", "            self._stage = _HEAD\n            return",
        "tests/unit/broker/test_connections.py"),
    api("codings that nobody takes off pass", "connections.py",
        'or coding.lower() != b"chunked")', "or not coding)", CUTS),
    # ---------------------------------------------------------------------------------------------- judging answers
    answers("one party has all of the common doubt", "testimony.py",
            "return self.suspect_at / 2.0", "return self.suspect_at"),
    answers("sessions of one key are several parties", "testimony.py",
            "parties[one.source.party] = min(", "parties[one.source.session] = min("),
    answers("a retry is a second witness", "testimony.py",
            "(AGAIN, 0.0) if known.has_said(complaint)", "(1.0, 1.0) if known.has_said(complaint)"),
    answers("a good answer of others says nothing", "testimony.py",
            "taken = min(left, one.share)", "taken = min(left, one.share) if one.source == source else 0.0"),
    answers("a good answer takes from everybody in full", "testimony.py", "left -= taken", "left -= 0.0"),
    answers("who calls for nothing may call again at once", "testimony.py",
            "quiet = max(one.silent_until_s, now_s + pause_s(one.refuted))", "quiet = now_s"),
    answers("whoever floods displaces others", "testimony.py",
            "loudest = max(sizes,", "loudest = min(sizes,"),
    answers("one session's doubt is everybody's", "suspicion.py",
            "if self.agreed or not self.serves:", "if self.called or not self.serves:"),
    answers("a model is condemned by silence once", "suspicion.py",
            "known.silences + 1 >= settings.silences_to_fail", "known.silences + 1 >= 1"),
    answers("a canary that shows nothing condemns", "suspicion.py",
            "event = TrustEvent.VOID if known.agreed else TrustEvent.CLEAR", "event = TrustEvent.FAIL"),
    answers("nobody asks a model that is silent", "suspicion.py",
            "known.hushed < settings.hush_at * 2", "known.hushed < 10**9 * 2"),
    answers("a 501 is a fault", "judge.py",
            "NO_FAULT = frozenset({501, 503, 505, 529})", "NO_FAULT = frozenset({503})"),
    answers("white space is nothing however little was asked for", "judge.py",
            "or (is_blank_for_a_start and expected.allows_white_space)", ""),
    answers("an error about the request is the model's", "judge.py",
            "return Reason.REFUSED_INSIDE if facts.refused else Reason.ERROR_INSIDE", "return Reason.ERROR_INSIDE"),
    answers("nothing is right though the token limit ended it", "asking.py",
            "if finish in CUT_WORDS:  # 3", "if finish == '':  # 3"),
    answers("a tool's answer long ago allows silence now", "asking.py",
            "            return number == 0", "            continue"),
    answers("one good answer heals", "canary.py", "NEEDED_TO_HEAL = 2", "NEEDED_TO_HEAL = 1"),
    answers("one bad answer fails a canary", "canary.py",
            "return Finding.PASSED if found.count(Finding.PASSED) >= needed else None",
            "return Finding.FAILED if Finding.FAILED in found else None"),
    answers("what is survived is banned", "deaths.py",
            "if mark not in tally.marks and mark in tally.without:", "if mark in tally.without:"),
    answers("a length is blamed that was survived", "deaths.py",
            "if size < LONG or not 0 < known.longest < size:", "if size < LONG:"),
    answers("one party's deaths are the model's own", "deaths.py",
            "return len(recent) - max(parts.values(), default=0) >= rules.deaths_at", "return True"),
    answers("a ban never ends", "deaths.py",
            "held = [ban for ban in fitting if ban.state is Ban.HELD and now_s < ban.until_s]",
            "held = [ban for ban in fitting if ban.state is Ban.HELD]"),
    answers("the innocent is taken for the culprit", "deaths.py",
            "what=min(names, key=lambda name: known.survived.sources[name])",
            "what=max(names, key=lambda name: known.survived.sources[name])"),
)  # fmt: skip
