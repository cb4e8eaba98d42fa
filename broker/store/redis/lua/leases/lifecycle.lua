-- What clients do to leases: poll, renew, release; and how each of them ends. Twin of broker/pool/leases/lifecycle.py.
local lifecycle = {}
do

function lifecycle.session_field(lease) return lease.intent .. '|' .. lease.hh .. '|' .. lease.model end

function lifecycle.leave_session(c, lease)
  local key = c.P .. ':session:' .. lease.sh
  redis.call('HDEL', key, lifecycle.session_field(lease))
  if redis.call('HLEN', key) == 1 and redis.call('HEXISTS', key, 'seq') == 1 then
    frame.expire_key(c, key, rows.rule(c, 'op_ttl_ms'))
  end
end

local function give_back(c, lease, event)
  local residency = rows.residency(c, lease.slot, lease.model)
  redis.call('ZREM', handout.held_key(c, lease.slot, lease.model), lease.id)
  rows.add(residency, 'use', -1)
  rows.put(residency, 'used_at', c.now_text)
  local held_ms = c.now - int(lease.granted)
  shares.settle(c, lease, held_ms)
  if POOL.LEARNED_FROM[event] then
    statistics.learn(rows.model(c, lease.model), 'hold', held_ms)
    if int(lease.estimate_ms) > 0 and event == 'release' then
      statistics.learn_error(c, lease, held_ms)
    end
  end
end

-- Follow an arrow into `ended` and take the lease out of every index.
function lifecycle.end_lease(c, lease, event, who, why)
  local was = lease.state
  local to = handout.arrow(was, event)
  if was == 'queued' then
    handout.unqueue(c, lease)
    shares.refund(c, lease)
    if event == 'cancel' then statistics.discount_arrival(c, rows.model(c, lease.model), int(lease.enq)) end
  elseif lease.intent == 'warm' then
    redis.call('ZREM', c.P .. ':warm:' .. lease.model, lease.id)
  else
    give_back(c, lease, event)
  end
  local reason = (was == 'ending' and event == 'expire') and 'preempted' or REASON_OF[event]
  if why ~= '' then reason = reason .. ': ' .. why end
  rows.put(lease, 'state', to)
  rows.put(lease, 'reason', reason)
  rows.put(lease, 'ended', c.now_text)
  rows.put(lease, 'deadline', '0')
  redis.call('ZREM', c.P .. ':due', lease.id)
  owners.forget(c, lease)
  lifecycle.leave_session(c, lease)
  key_limits.leave(c, lease)
  if POOL.OWN_DOING[event] then key_limits.keep(c, lease.who, 'lease:' .. lease.id) end
  local kept_ms = rows.rule(c, (lease.op or '') ~= '' and 'op_ttl_ms' or 'ended_ttl_ms')
  frame.expire_key(c, c.P .. ':lease:' .. lease.id, kept_ms)
  events.emit_lease(c, 'ended', lease, who, was, reason)
end

function lifecycle.expire(c, lease)
  lifecycle.end_lease(c, lease, lease.state == 'queued' and 'time_out' or 'expire', 'scheduler', '')
end

-- A deadline counts from its very millisecond on, also when `tick` was late.
function lifecycle.expire_if_due(c, lease)
  if lease.state ~= 'ended' and c.now >= int(lease.deadline) then
    lifecycle.expire(c, lease)
    handout.hand_out(c, lease.model)
  end
end

function lifecycle.attend(c, lease, waiter_ttl_ms)
  lifecycle.expire_if_due(c, lease)
  if lease.state == 'queued' then
    handout.set_deadline(c, lease, math.max(int(lease.deadline), c.now + waiter_ttl_ms))
  elseif lease.state == 'active' and lease.claimed ~= '1' then
    rows.put(lease, 'claimed', '1')
    handout.set_deadline(c, lease, c.now + int(lease.ttl_ms))
    events.emit_lease(c, 'renewed', lease, lease.who, lease.state, 'claimed')
  end
end

function lifecycle.checked_lease(c, id, nonce)
  local lease = rows.known_lease(c, id)
  if nonce ~= nil and lease.nonce ~= nonce then refuse('STALE_NONCE', 'lease ' .. id .. ' has another nonce') end
  return lease
end

function lifecycle.poll(c, id, waiter_ttl_ms)
  if waiter_ttl_ms <= 0 then refuse('BAD_ARGUMENT', 'waiter_ttl must be positive') end
  local lease = rows.known_lease(c, id)
  lifecycle.attend(c, lease, waiter_ttl_ms)
  return lease
end

function lifecycle.renew(c, id, nonce, ttl_ms, who)
  if ttl_ms <= 0 then refuse('BAD_ARGUMENT', 'ttl must be positive') end
  local lease = lifecycle.checked_lease(c, id, nonce)
  lifecycle.expire_if_due(c, lease)
  if lease.state == 'ended' then refuse('LEASE_ENDED', 'lease ' .. id .. ' ended: ' .. lease.reason) end
  if lease.state == 'queued' then
    handout.set_deadline(c, lease, math.max(int(lease.deadline), c.now + ttl_ms))
    return lease
  end
  handout.arrow(lease.state, 'renew')
  rows.put(lease, 'claimed', '1')
  if lease.state == 'active' then
    rows.put(lease, 'ttl_ms', s(ttl_ms))
    handout.set_deadline(c, lease, c.now + ttl_ms)
  end
  events.emit_lease(c, 'renewed', lease, who, lease.state, '')
  return lease
end

-- `otherwise`: the event that ends a held lease; a queued one is cancelled.
function lifecycle.finish(c, lease, otherwise, who, why)
  lifecycle.expire_if_due(c, lease)
  if lease.state ~= 'ended' then
    lifecycle.end_lease(c, lease, lease.state == 'queued' and 'cancel' or otherwise, who, why)
    handout.hand_out(c, lease.model)
  end
  return lease
end

function lifecycle.release(c, id, nonce, who)
  return lifecycle.finish(c, lifecycle.checked_lease(c, id, nonce), 'release', who, '')
end

function lifecycle.preempt(c, id, grace_ms, why)
  if grace_ms < 0 then refuse('BAD_ARGUMENT', 'grace must not be negative') end
  local lease = rows.known_lease(c, id)
  lifecycle.expire_if_due(c, lease)
  if lease.state ~= 'active' then refuse('STALE', 'lease ' .. id .. ' is ' .. lease.state) end
  rows.put(lease, 'state', handout.arrow(lease.state, 'preempt'))
  rows.put(lease, 'reason', why)
  handout.set_deadline(c, lease, c.now + grace_ms)
  events.emit_lease(c, 'ending', lease, 'scheduler', 'active', why)
end

function lifecycle.expire_due(c)
  local due = redis.call('ZRANGEBYSCORE', c.P .. ':due', '-inf', c.now_text, 'LIMIT', 0, POOL.MAX_LOOP)
  for _, id in ipairs(due) do lifecycle.expire(c, rows.lease(c, id)) end
end

function lifecycle.lose_leases(c, slot, model, who, why)
  for _, id in ipairs(redis.call('ZRANGE', handout.held_key(c, slot, model), 0, -1)) do
    lifecycle.end_lease(c, rows.lease(c, id), 'lose', who, why)
  end
end

function lifecycle.reject_cold(c, model)
  local row = rows.model(c, model)
  if int(row.only_warm) == 0 or (row.ready or '') ~= '' then return end
  for _, id in ipairs(shares.in_turn(c, model, 0, POOL.MAX_LOOP - 1)) do
    local lease = rows.lease(c, id)
    if lease.only_warm == '1' then lifecycle.end_lease(c, lease, 'reject', 'scheduler', 'model_not_warm') end
  end
end

function lifecycle.reject_waiting(c, model, why, asked_before)
  for _, id in ipairs(shares.in_turn(c, model, 0, POOL.MAX_LOOP - 1)) do
    local lease = rows.lease(c, id)
    if int(lease.enq) <= asked_before then lifecycle.end_lease(c, lease, 'reject', 'scheduler', why) end
  end
end

end
