-- Asking for a lease: the same one again, one at once, or a place in line. Twin of broker/core/pool_acquire.py.
local ask_of, fits_nowhere, quarantined_everywhere, acquire
do

local TRUSTED_ERROR = 700

local ASKED = 17 -- at least: a broker of an earlier version has no life, and nobody comes back to it

function ask_of(args, from)
  if args[from + ASKED - 1] == nil then refuse('BAD_ARGUMENT', s(ASKED) .. ' arguments are needed') end
  local id, nonce, session, sh, hh, model, intent, holder, priority, who, ttl_ms, waiter_ttl_ms, estimate_ms, op, body,
    max_open, single, life, place, named = unpack(args, from, from + ASKED + 2)
  local ask = {
    id = id, nonce = nonce, session = session, sh = sh, hh = hh, model = model, intent = intent, holder = holder,
    priority = priority, who = who, ttl_ms = ttl_ms, waiter_ttl_ms = waiter_ttl_ms, estimate_ms = estimate_ms, op = op,
    body = body, max_open = max_open, single = single, life = life or '', place = place or '', named = named or '',
  }
  if RANK[ask.priority] == nil or (ask.intent ~= 'use' and ask.intent ~= 'warm') then
    refuse('BAD_ARGUMENT', 'unknown priority or intent')
  end
  if whole(ask.ttl_ms) <= 0 or whole(ask.waiter_ttl_ms) <= 0 or whole(ask.estimate_ms) < 0 then
    refuse('BAD_ARGUMENT', 'ttl and waiter_ttl must be positive')
  end
  return ask
end

local function of_operation(c, ask)
  if ask.op == '' then return nil end
  local known = redis.call('GET', c.P .. ':op:' .. ask.op)
  if not known then return nil end
  local id, body = string.match(known, '^(%S+) (%S*)$')
  if body ~= ask.body then refuse('OP_MISMATCH', 'the idempotency key was used with another body') end
  local lease = lease_row(c, id)
  if lease.state == nil then return nil end
  ask.noted = true
  return lease
end

local function of_id(c, ask)
  local lease = lease_row(c, ask.id)
  if lease.state == nil then return nil end
  if lease.nonce ~= ask.nonce then refuse('BAD_ARGUMENT', 'lease id ' .. ask.id .. ' is taken') end
  return lease
end

local function of_session(c, ask)
  local key = c.P .. ':session:' .. ask.sh
  local found = redis.call('HMGET', key, session_field(ask), 'queued', 'seq', 'left')
  ask.session_queued, ask.session_seq, ask.session_left = int(found[2]), found[3], int(found[4])
  if not found[1] then return nil end
  local lease = lease_row(c, found[1])
  expire_if_due(c, lease)
  if lease.state == 'ended' then
    found = redis.call('HMGET', key, 'queued', 'left')
    ask.session_queued, ask.session_left = int(found[1]), int(found[2])
    return nil
  end
  return lease
end

-- Is it larger than what every slot that ever reported would have without foreign processes?
function fits_nowhere(c, model)
  local largest = 0
  for _, slot in ipairs(redis.call('SMEMBERS', c.P .. ':slots')) do
    local row = slot_row(c, slot)
    if int(row.budget_mib) > 0 then largest = math.max(largest, int(row.budget_mib) + int(row.foreign_mib)) end
  end
  return largest > 0 and largest < int(model.memory_mib)
end

function quarantined_everywhere(c, name)
  if int(model_row(c, name).bad) == 0 then return false end
  for _, slot in ipairs(redis.call('SMEMBERS', c.P .. ':slots')) do
    if has(words(slot_row(c, slot).serves), name) and residency_row(c, slot, name).quarantined ~= '1' then
      return false
    end
  end
  return true
end

local function refuse_unservable(c, ask)
  local model = model_row(c, ask.model)
  if not model.name then refuse('UNKNOWN_MODEL', 'no model ' .. ask.model) end
  if (model.ready or '') ~= '' then return end
  if fits_nowhere(c, model) then
    refuse('MODEL_TOO_LARGE', ask.model .. ' needs ' .. model.memory_mib .. ' MiB, more than any slot has')
  end
  if quarantined_everywhere(c, ask.model) then
    refuse('MODEL_QUARANTINED', ask.model .. ' failed to load too often')
  end
end

local function refuse_overflow(c, ask, at_once)
  local max_open = int(ask.max_open)
  if max_open > 0 then
    local open = int(redis.call('HGET', tenant_key(c, ask.who), 'open'))
    if open >= max_open then refuse('TENANT_FULL', ask.who .. ' has ' .. s(open) .. ' open leases') end
  end
  if at_once then return end
  if ask.intent == 'warm' then
    local most = rule(c, 'max_queue')
    if redis.call('ZCARD', c.P .. ':warm:' .. ask.model) >= most then
      refuse('QUEUE_FULL', ask.model .. ' has ' .. s(most) .. ' warm leases')
    end
    return
  end
  if c.queued >= rule(c, 'max_queue') then refuse('QUEUE_FULL', s(c.queued) .. ' tickets wait') end
  if ask.session_queued >= rule(c, 'max_queue_session') then
    refuse('SESSION_QUEUE_FULL', 'the session has ' .. s(ask.session_queued) .. ' tickets waiting')
  end
end

local function note_operation(c, ask, lease)
  redis.call('SET', c.P .. ':op:' .. ask.op, lease.id .. ' ' .. ask.body, 'PX', s(rule(c, 'op_ttl_ms')))
end

local LEASE_OF_ASK = {
  'id', 'nonce', 'session', 'sh', 'hh', 'model', 'intent', 'holder', 'priority', 'who', 'ttl_ms', 'estimate_ms', 'op',
  'single', 'life',
}

-- `before`: what its client has lost; the new lease has its arrival.
local function open_lease(c, ask, model, before)
  if before == nil then c.arrival = c.arrival + 1 end
  local lease, tenant = lease_row(c, ask.id), tenant_key(c, ask.who)
  for _, name in ipairs(LEASE_OF_ASK) do
    if ask[name] ~= '' and ask[name] ~= '0' then lease[name] = ask[name] end
  end
  changes_of[lease] = FRESH
  put(lease, 'state', 'queued')
  put(lease, 'arrival', before and before.arrival or s(c.arrival))
  put(lease, 'enq', before and before.enq or c.now_text)
  if int(ask.estimate_ms) > 0 and int(redis.call('HGET', tenant, 'err')) <= TRUSTED_ERROR then
    put(lease, 'expected_ms', ask.estimate_ms)
  end
  redis.call('HINCRBY', tenant, 'open', 1)
  local session = c.P .. ':session:' .. ask.sh
  redis.call('HSET', session, session_field(lease), lease.id)
  if ask.session_seq then redis.call('PERSIST', session) end
  if ask.op ~= '' then note_operation(c, ask, lease) end
  if before ~= nil then
    left.forget(c, before)
  elseif ask.intent == 'use' then
    put(model, 'arrivals', s(decayed_arrivals(c, model) + 1000))
    put(model, 'arrived_at', c.now_text)
  end
  return lease
end

local function keep_warm(c, lease)
  put(lease, 'state', 'active')
  put(lease, 'granted', c.now_text)
  put(lease, 'claimed', '1')
  redis.call('ZADD', c.P .. ':warm:' .. lease.model, c.now_text, lease.id)
  set_deadline(c, lease, c.now + int(lease.ttl_ms))
  emit_lease(c, 'granted', lease, lease.who, '', '')
end

-- The first ready residency with a place that admits this arrival; nil while anybody waits.
local function free_place(c, ask, model, before)
  if ask.intent ~= 'use' or int(model.queued) > 0 then return nil end
  local arrival = before and int(before.arrival) or c.arrival + 1
  for _, place in ipairs(places(c, model)) do
    if int(place.residency.admit) > arrival then return place end
  end
  return nil
end

-- Only what belongs to a broker's life is ever left behind; a holder of its own knows its lease. Who is served at once
-- needs no place, so it looks only where its session has left a live lease.
local function is_bound(ask) return ask.life ~= '' and ask.place ~= '' end

function acquire(c, ask)
  if ask.life ~= '' then
    if ask.intent ~= 'use' then refuse('BAD_ARGUMENT', "a warm lease is its holder's") end
    lives.require(c, ask.life)
  end
  local lease, before = of_operation(c, ask) or of_id(c, ask) or of_session(c, ask), nil
  local model, place, looked = model_row(c, ask.model), nil, false
  if lease == nil then
    place = free_place(c, ask, model, nil)
    looked = is_bound(ask) and (place == nil or ask.session_left > 0)
    if looked then before = lives.left_behind(c, ask) end
  end
  if before ~= nil and before.state ~= 'ended' then
    lives.take_up(c, before, ask)
    lease = before
  end
  if lease ~= nil then
    attend(c, lease, int(ask.waiter_ttl_ms))
    if ask.op ~= '' and not ask.noted then
      note_operation(c, ask, lease)
      put(lease, 'op', ask.op)
    end
    return lease
  end
  refuse_unservable(c, ask)
  if looked then place = free_place(c, ask, model, before) end
  refuse_overflow(c, ask, place ~= nil)
  lease = open_lease(c, ask, model, before)
  if ask.intent == 'warm' then
    keep_warm(c, lease)
  elseif place ~= nil then
    grant(c, lease, place.slot, place.residency, true, '')
  else
    if ask.place ~= '' then put(lease, 'place', ask.place) end
    if ask.named ~= '' then put(lease, 'named', ask.named) end
    enqueue(c, lease, int(ask.waiter_ttl_ms))
    hand_out(c, ask.model, lease.id)
  end
  return lease
end

end
