-- Asking for a lease: the same one again, one at once, or a place in line. Twin of broker/pool/leases/acquire.py.
local acquire = {}
do

function acquire.ask_of(args, from)
  if args[from + LEASE.NEEDED - 1] == nil then refuse('BAD_ARGUMENT', s(LEASE.NEEDED) .. ' arguments are needed') end
  local ask = LEASE.ask(args, from)
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
  local lease = rows.lease(c, id)
  if lease.state == nil then return nil end
  ask.noted = true
  return lease
end

local function of_id(c, ask)
  local lease = rows.lease(c, ask.id)
  if lease.state == nil then return nil end
  if lease.nonce ~= ask.nonce then refuse('BAD_ARGUMENT', 'lease id ' .. ask.id .. ' is taken') end
  return lease
end

local function of_session(c, ask)
  local key = c.P .. ':session:' .. ask.sh
  local found = redis.call('HMGET', key, lifecycle.session_field(ask), 'queued', 'seq', 'left')
  ask.session_queued, ask.session_seq, ask.session_left = int(found[2]), found[3], int(found[4])
  if not found[1] then return nil end
  local lease = rows.lease(c, found[1])
  lifecycle.expire_if_due(c, lease)
  if lease.state == 'ended' then
    found = redis.call('HMGET', key, 'queued', 'left')
    ask.session_queued, ask.session_left = int(found[1]), int(found[2])
    return nil
  end
  return lease
end

local function refuse_unservable(c, ask)
  local model = rows.model(c, ask.model)
  if not model.name then refuse('UNKNOWN_MODEL', 'no model ' .. ask.model) end
  local found = availability.unavailable(c, model)
  if found ~= nil then
    refuse(found.code, found.seconds and s(found.seconds) .. ' ' .. found.text or found.text)
  end
end

-- Whoever has a lease keeps it; nobody waits for a load.
local function refuse_cold(c, ask, found)
  if found == nil or found.state == 'ended' then
    refuse_unservable(c, ask)
  elseif found.state ~= 'queued' then
    return
  end
  local name = found and found.model or ask.model
  if (rows.model(c, name).ready or '') == '' then
    refuse('MODEL_NOT_WARM', s(POOL.REFUSAL_PAUSE_S) .. ' ' .. name
      .. ' is not loaded, and is to be used only while it is')
  end
end

local function count_warm(c)
  local number = 0
  for _, model in ipairs(redis.call('SMEMBERS', c.P .. ':models')) do
    number = number + redis.call('ZCARD', c.P .. ':warm:' .. model)
  end
  return number
end

local function refuse_overflow(c, ask, at_once)
  local max_open = int(ask.max_open)
  if max_open > 0 then
    local open = key_limits.count(c, ask.who)
    if open >= max_open then refuse('TENANT_FULL', ask.who .. ' has ' .. s(open) .. ' open leases') end
  end
  if at_once then return end
  if ask.intent == 'warm' then
    key_limits.refuse_full(c, ask.who, count_warm(c), 'warm leases')
    return
  end
  key_limits.refuse_full(c, ask.who, c.queued, 'tickets in line')
  if ask.session_queued >= rows.rule(c, 'max_queue_session') then
    refuse('SESSION_QUEUE_FULL', 'the session has ' .. s(ask.session_queued) .. ' tickets waiting')
  end
end

local function note_operation(c, ask, lease)
  redis.call('SET', c.P .. ':op:' .. ask.op, lease.id .. ' ' .. ask.body, 'PX', s(rows.rule(c, 'op_ttl_ms')))
  key_limits.keep(c, ask.who, 'op:' .. ask.op)
end

-- `before`: what its client has lost; the new lease has its arrival.
local function open_lease(c, ask, model, before)
  if before == nil then c.arrival = c.arrival + 1 end
  local lease, tenant = rows.lease(c, ask.id), rows.tenant_key(c, ask.who)
  for _, name in ipairs(LEASE.TAKEN_OVER) do
    if ask[name] ~= '' and ask[name] ~= '0' then lease[name] = ask[name] end
  end
  rows.write_whole(lease)
  rows.put(lease, 'state', 'queued')
  rows.put(lease, 'arrival', before and before.arrival or s(c.arrival))
  rows.put(lease, 'enq', before and before.enq or c.now_text)
  if int(ask.estimate_ms) > 0 and int(redis.call('HGET', tenant, 'err')) <= POOL.TRUSTED_ERROR then
    rows.put(lease, 'expected_ms', ask.estimate_ms)
  end
  key_limits.join(c, lease)
  local session = c.P .. ':session:' .. ask.sh
  redis.call('HSET', session, lifecycle.session_field(lease), lease.id)
  if ask.session_seq then redis.call('PERSIST', session) end
  if ask.op ~= '' then note_operation(c, ask, lease) end
  if before ~= nil then
    owners.forget(c, before)
  elseif ask.intent == 'use' and ask.only_warm ~= '1' then -- who causes no load says nothing of what to load
    rows.put(model, 'arrivals', s(statistics.decayed_arrivals(c, model) + POOL.ONE_ARRIVAL))
    rows.put(model, 'arrived_at', c.now_text)
  end
  return lease
end

local function keep_warm(c, lease)
  rows.put(lease, 'state', 'active')
  rows.put(lease, 'granted', c.now_text)
  rows.put(lease, 'claimed', '1')
  redis.call('ZADD', c.P .. ':warm:' .. lease.model, c.now_text, lease.id)
  handout.set_deadline(c, lease, c.now + int(lease.ttl_ms))
  events.emit_lease(c, 'granted', lease, lease.who, '', '')
end

-- The first ready residency with a place that admits this arrival; nil while anybody waits.
local function free_place(c, ask, model, before)
  if ask.intent ~= 'use' or int(model.queued) > 0 then return nil end
  local arrival = before and int(before.arrival) or c.arrival + 1
  for _, place in ipairs(handout.places(c, model)) do
    if int(place.residency.admit) > arrival then return place end
  end
  return nil
end

-- Only what belongs to a broker's life is ever left behind; a holder of its own knows its lease. Who is served at once
-- needs no place, so it looks only where its session has left a live lease.
local function is_bound(ask) return ask.life ~= '' and ask.place ~= '' end

function acquire.acquire(c, ask)
  if ask.life ~= '' then
    if ask.intent ~= 'use' then refuse('BAD_ARGUMENT', "a warm lease is its holder's") end
    broker_lives.require(c, ask.life)
  end
  local lease, before = of_operation(c, ask) or of_id(c, ask) or of_session(c, ask), nil
  local model, place, looked = rows.model(c, ask.model), nil, false
  if lease == nil then
    place = free_place(c, ask, model, nil)
    looked = is_bound(ask) and (place == nil or ask.session_left > 0)
    if looked then before = broker_lives.left_behind(c, ask) end
  end
  if ask.only_warm == '1' then refuse_cold(c, ask, lease or before) end
  if before ~= nil and before.state ~= 'ended' then
    broker_lives.take_up(c, before, ask)
    lease = before
  end
  if lease ~= nil then
    lifecycle.attend(c, lease, int(ask.waiter_ttl_ms))
    if ask.op ~= '' and not ask.noted then
      note_operation(c, ask, lease)
      rows.put(lease, 'op', ask.op)
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
    handout.grant(c, lease, place.slot, place.residency, true, '')
  else
    if ask.place ~= '' then rows.put(lease, 'place', ask.place) end
    if ask.named ~= '' then rows.put(lease, 'named', ask.named) end
    handout.enqueue(c, lease, int(ask.waiter_ttl_ms))
    handout.hand_out(c, ask.model, lease.id)
  end
  return lease
end

end
