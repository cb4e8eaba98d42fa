-- What clients do to leases: poll, renew, release; and how each of them ends. Twin of broker/pool/leases/lifecycle.py.
local learn, decayed_arrivals, session_field, leave_session, end_lease, expire, expire_if_due, attend, checked_lease,
  poll, renew, finish, release, preempt, expire_due, lose_leases, reject_waiting, reject_cold
do

local function rounded(value) return math.floor(value + 0.5) end

function learn(row, name, observed_ms)
  local n, mean, var = int(row[name .. '_n']), int(row[name .. '_ms']), int(row[name .. '_var'])
  if n == 0 then
    mean, var = observed_ms, 0
  else
    local off = observed_ms - mean
    mean = rounded(mean + POOL.ALPHA * off)
    var = rounded((1 - POOL.ALPHA) * (var + POOL.ALPHA * off * off))
  end
  put(row, name .. '_ms', s(mean))
  put(row, name .. '_var', s(var))
  put(row, name .. '_n', s(n + 1))
end

local function learn_error(c, lease, held_ms)
  local key = tenant_key(c, lease.who)
  local off = rounded(math.abs(math.log(math.max(held_ms, 1) / int(lease.estimate_ms))) * 1000)
  local known = redis.call('HMGET', key, 'err', 'err_n')
  local err, n = int(known[1]), int(known[2])
  redis.call('HSET', key, 'err', s(n == 0 and off or rounded(err + POOL.ALPHA * (off - err))), 'err_n', s(n + 1))
  expire_key(c, key, by_key.ERRORS_KEPT_MS)
end

function decayed_arrivals(c, model)
  return rounded(int(model.arrivals) * math.exp((int(model.arrived_at) - c.now) / POOL.ARRIVALS_TAU_MS))
end

-- One that was asked for left the line by itself: nothing was used, so nothing more is to be expected.
local function discount_arrival(c, model, arrived_ms)
  local its_part = rounded(POOL.ONE_ARRIVAL * math.exp((arrived_ms - c.now) / POOL.ARRIVALS_TAU_MS))
  put(model, 'arrivals', s(math.max(decayed_arrivals(c, model) - its_part, 0)))
  put(model, 'arrived_at', c.now_text)
end

function session_field(lease) return lease.intent .. '|' .. lease.hh .. '|' .. lease.model end

function leave_session(c, lease)
  local key = c.P .. ':session:' .. lease.sh
  redis.call('HDEL', key, session_field(lease))
  if redis.call('HLEN', key) == 1 and redis.call('HEXISTS', key, 'seq') == 1 then
    expire_key(c, key, rule(c, 'op_ttl_ms'))
  end
end

local function give_back(c, lease, event)
  local residency = residency_row(c, lease.slot, lease.model)
  redis.call('ZREM', held_key(c, lease.slot, lease.model), lease.id)
  add(residency, 'use', -1)
  put(residency, 'used_at', c.now_text)
  local held_ms = c.now - int(lease.granted)
  settle(c, lease, held_ms)
  if POOL.LEARNED_FROM[event] then
    learn(model_row(c, lease.model), 'hold', held_ms)
    if int(lease.estimate_ms) > 0 and event == 'release' then
      learn_error(c, lease, held_ms)
    end
  end
end

-- Follow an arrow into `ended` and take the lease out of every index.
function end_lease(c, lease, event, who, why)
  local was = lease.state
  local to = arrow(was, event)
  if was == 'queued' then
    unqueue(c, lease)
    refund(c, lease)
    if event == 'cancel' then discount_arrival(c, model_row(c, lease.model), int(lease.enq)) end
  elseif lease.intent == 'warm' then
    redis.call('ZREM', c.P .. ':warm:' .. lease.model, lease.id)
  else
    give_back(c, lease, event)
  end
  local reason = (was == 'ending' and event == 'expire') and 'preempted' or REASON_OF[event]
  if why ~= '' then reason = reason .. ': ' .. why end
  put(lease, 'state', to)
  put(lease, 'reason', reason)
  put(lease, 'ended', c.now_text)
  put(lease, 'deadline', '0')
  redis.call('ZREM', c.P .. ':due', lease.id)
  left.forget(c, lease)
  leave_session(c, lease)
  by_key.leave(c, lease)
  if POOL.OWN_DOING[event] then by_key.keep(c, lease.who, 'lease:' .. lease.id) end
  expire_key(c, c.P .. ':lease:' .. lease.id, rule(c, (lease.op or '') ~= '' and 'op_ttl_ms' or 'ended_ttl_ms'))
  emit_lease(c, 'ended', lease, who, was, reason)
end

function expire(c, lease)
  end_lease(c, lease, lease.state == 'queued' and 'time_out' or 'expire', 'scheduler', '')
end

-- A deadline counts from its very millisecond on, also when `tick` was late.
function expire_if_due(c, lease)
  if lease.state ~= 'ended' and c.now >= int(lease.deadline) then
    expire(c, lease)
    hand_out(c, lease.model)
  end
end

function attend(c, lease, waiter_ttl_ms)
  expire_if_due(c, lease)
  if lease.state == 'queued' then
    set_deadline(c, lease, math.max(int(lease.deadline), c.now + waiter_ttl_ms))
  elseif lease.state == 'active' and lease.claimed ~= '1' then
    put(lease, 'claimed', '1')
    set_deadline(c, lease, c.now + int(lease.ttl_ms))
    emit_lease(c, 'renewed', lease, lease.who, lease.state, 'claimed')
  end
end

function checked_lease(c, id, nonce)
  local lease = known_lease(c, id)
  if nonce ~= nil and lease.nonce ~= nonce then refuse('STALE_NONCE', 'lease ' .. id .. ' has another nonce') end
  return lease
end

function poll(c, id, waiter_ttl_ms)
  if waiter_ttl_ms <= 0 then refuse('BAD_ARGUMENT', 'waiter_ttl must be positive') end
  local lease = known_lease(c, id)
  attend(c, lease, waiter_ttl_ms)
  return lease
end

function renew(c, id, nonce, ttl_ms, who)
  if ttl_ms <= 0 then refuse('BAD_ARGUMENT', 'ttl must be positive') end
  local lease = checked_lease(c, id, nonce)
  expire_if_due(c, lease)
  if lease.state == 'ended' then refuse('LEASE_ENDED', 'lease ' .. id .. ' ended: ' .. lease.reason) end
  if lease.state == 'queued' then
    set_deadline(c, lease, math.max(int(lease.deadline), c.now + ttl_ms))
    return lease
  end
  arrow(lease.state, 'renew')
  put(lease, 'claimed', '1')
  if lease.state == 'active' then
    put(lease, 'ttl_ms', s(ttl_ms))
    set_deadline(c, lease, c.now + ttl_ms)
  end
  emit_lease(c, 'renewed', lease, who, lease.state, '')
  return lease
end

-- `otherwise`: the event that ends a held lease; a queued one is cancelled.
function finish(c, lease, otherwise, who, why)
  expire_if_due(c, lease)
  if lease.state ~= 'ended' then
    end_lease(c, lease, lease.state == 'queued' and 'cancel' or otherwise, who, why)
    hand_out(c, lease.model)
  end
  return lease
end

function release(c, id, nonce, who) return finish(c, checked_lease(c, id, nonce), 'release', who, '') end

function preempt(c, id, grace_ms, why)
  if grace_ms < 0 then refuse('BAD_ARGUMENT', 'grace must not be negative') end
  local lease = known_lease(c, id)
  expire_if_due(c, lease)
  if lease.state ~= 'active' then refuse('STALE', 'lease ' .. id .. ' is ' .. lease.state) end
  put(lease, 'state', arrow(lease.state, 'preempt'))
  put(lease, 'reason', why)
  set_deadline(c, lease, c.now + grace_ms)
  emit_lease(c, 'ending', lease, 'scheduler', 'active', why)
end

function expire_due(c)
  local due = redis.call('ZRANGEBYSCORE', c.P .. ':due', '-inf', c.now_text, 'LIMIT', 0, POOL.MAX_LOOP)
  for _, id in ipairs(due) do expire(c, lease_row(c, id)) end
end

function lose_leases(c, slot, model, who, why)
  for _, id in ipairs(redis.call('ZRANGE', held_key(c, slot, model), 0, -1)) do
    end_lease(c, lease_row(c, id), 'lose', who, why)
  end
end

function reject_cold(c, model)
  local row = model_row(c, model)
  if int(row.only_warm) == 0 or (row.ready or '') ~= '' then return end
  for _, id in ipairs(in_turn(c, model, 0, POOL.MAX_LOOP - 1)) do
    local lease = lease_row(c, id)
    if lease.only_warm == '1' then end_lease(c, lease, 'reject', 'scheduler', 'model_not_warm') end
  end
end

function reject_waiting(c, model, why, asked_before)
  for _, id in ipairs(in_turn(c, model, 0, POOL.MAX_LOOP - 1)) do
    local lease = lease_row(c, id)
    if int(lease.enq) <= asked_before then end_lease(c, lease, 'reject', 'scheduler', why) end
  end
end

end
