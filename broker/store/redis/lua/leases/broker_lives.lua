-- Brokers' lives, and clients that come back. Twin of broker/pool/leases/broker_lives.py and comeback.py.
local broker_lives = {}
do

local function brokers_key(c) return c.P .. ':brokers' end

function broker_lives.all(c) return sorted(redis.call('ZRANGE', brokers_key(c), 0, -1)) end

-- nil: unknown, GONE: being buried, else `watch` at its last beat.
local function beat_of(c, life)
  local score = redis.call('ZSCORE', brokers_key(c), life)
  return score and int(score) or nil
end

local function is_alive(c, life)
  local last = beat_of(c, life)
  return last ~= nil and last ~= POOL.GONE
end

function broker_lives.require(c, life)
  if not is_alive(c, life) then refuse('LIFE_ENDED', 'the life ' .. life .. ' is over') end
end

-- ----------------------------------------------------------------------------------------------- coming back
local function may_be_taken_up(c, lease, ask)
  lifecycle.expire_if_due(c, lease)
  if lease.model ~= ask.model or lease.who ~= ask.who then return false end
  if lease.state == 'ended' then return int(lease.kept) > c.now end
  return lease.state == 'queued' or (lease.state == 'active' and lease.claimed ~= '1')
end

function broker_lives.left_behind(c, ask)
  local own, overdue = nil, nil
  owners.look_through(c, ask.place, function(lease)
    if not may_be_taken_up(c, lease, ask) then return false end
    if lease.sh == ask.sh then
      own = lease
    elseif overdue == nil and c.now >= int(lease.left) and not (lease.named == '1' and ask.named == '1') then
      overdue = lease
    end
    return own ~= nil
  end)
  local lease = own or overdue
  if lease == nil and ask.named == '1' then
    owners.look_through(c, owners.by_session(ask), function(one)
      if c.now >= int(one.left) and may_be_taken_up(c, one, ask) then lease = one end
      return lease ~= nil
    end)
  end
  ask.session_queued = int(redis.call('HGET', c.P .. ':session:' .. ask.sh, 'queued')) -- some may have been due
  return lease
end

function broker_lives.take_up(c, lease, ask)
  local waits = lease.state == 'queued'
  owners.forget(c, lease)
  if waits then
    handout.session_count(c, lease, -1)
    shares.refund(c, lease)
  end
  lifecycle.leave_session(c, lease)
  for _, field in ipairs(LEASE.OF_ITS_CLIENT) do rows.put(lease, field, ask[field]) end
  local session = c.P .. ':session:' .. lease.sh
  redis.call('HSET', session, lifecycle.session_field(lease), lease.id)
  redis.call('PERSIST', session)
  if waits then
    handout.session_count(c, lease, 1)
    shares.charge_again(c, lease)
    owners.join(c, lease)
  end
end

function broker_lives.send_away(c, id, nonce, life, back_ms, kept_ms)
  if back_ms < 0 or kept_ms <= 0 then refuse('BAD_ARGUMENT', 'back and kept must be positive') end
  local lease = lifecycle.checked_lease(c, id, nonce)
  lifecycle.expire_if_due(c, lease)
  if lease.state == 'ended' or (lease.life or '') == '' or lease.life ~= life then return end
  owners.leave(c, lease)
  rows.put(lease, 'life', '')
  if lease.state == 'queued' then
    handout.set_deadline(c, lease, c.now + back_ms + kept_ms)
  elseif lease.state == 'active' and lease.claimed == '1' then
    rows.put(lease, 'claimed', '')
    handout.set_deadline(c, lease, math.min(int(lease.deadline), c.now + rows.rule(c, 'claim_ttl_ms')))
  end
  owners.remember(c, lease, c.now + back_ms)
end

local function may_inherit(c, lease, lost)
  return lease.state == 'queued' and lease.model == lost.model and lease.who == lost.who
    and lease.priority == lost.priority and c.now < int(lease.deadline)
    and (lease.life or '') ~= '' and is_alive(c, lease.life)
end

local function goes_before(lease, other)
  if int(lease.arrival) ~= int(other.arrival) then return int(lease.arrival) < int(other.arrival) end
  return bytewise(lease.id, other.id)
end

local function heir_of(c, lost)
  for _, lease in ipairs(owners.attended(c, lost.place or '', lost.arrival)) do
    local may_be_its = lease.sh == lost.sh or not (lease.named == '1' and lost.named == '1')
    if may_be_its and may_inherit(c, lease, lost) then return lease end
  end
  if lost.named ~= '1' then return nil end
  local heir, flat = nil, redis.call('HGETALL', c.P .. ':session:' .. lost.sh)
  for i = 1, #flat, 2 do
    if string.sub(flat[i], 1, 4) == 'use|' then
      local lease = rows.lease(c, flat[i + 1])
      if int(lease.arrival) > int(lost.arrival) and may_inherit(c, lease, lost)
        and (heir == nil or goes_before(lease, heir)) then heir = lease end
    end
  end
  return heir
end

-- Who came to another broker before its own was known to be dead stands where it stood: the two change places.
local function pass_on(c, lost)
  local heir = heir_of(c, lost)
  if heir == nil then return end
  local turns = c.P .. ':turn:' .. heir.model
  redis.call('ZREM', turns, shares.turn_member(heir))
  local arrival, enq = heir.arrival, heir.enq
  rows.put(heir, 'arrival', lost.arrival)
  rows.put(heir, 'enq', lost.enq)
  rows.put(lost, 'arrival', arrival)
  rows.put(lost, 'enq', enq)
  rows.put(heir, 'turn', s(math.min(int(heir.turn), int(lost.turn))))
  redis.call('ZADD', handout.queue_key(c, heir.model), handout.score(heir), heir.id)
  redis.call('ZADD', turns, shares.turn_score(heir), shares.turn_member(heir))
  owners.moved(c, heir)
  owners.moved(c, lost)
end

-- ------------------------------------------------------------------------------------------------------ lives
local function lose(c, lease)
  local waited, kept = lease.claimed ~= '1', int(lease.deadline)
  lifecycle.end_lease(c, lease, 'lose', 'scheduler', 'broker_gone')
  if waited and kept > c.now then
    rows.put(lease, 'kept', s(kept))
    owners.remember(c, lease, c.now)
    pass_on(c, lease)
  end
end

-- Ids of leases in use, slot by slot and model by model, the oldest first.
function broker_lives.held(c)
  local found = {}
  for _, slot in ipairs(sorted(redis.call('SMEMBERS', c.P .. ':slots'))) do
    for _, model in ipairs(words(rows.slot(c, slot).models)) do
      for _, id in ipairs(redis.call('ZRANGE', handout.held_key(c, slot, model), 0, -1)) do found[#found + 1] = id end
    end
  end
  return found
end

-- MAX_LOOP and one more: whether there is more to do.
local function belongings_of(c, gone)
  local found = {}
  for _, id in ipairs(broker_lives.held(c)) do
    if #found <= POOL.MAX_LOOP and has(gone, rows.lease(c, id).life) then found[#found + 1] = id end
  end
  for _, life in ipairs(gone) do
    if #found <= POOL.MAX_LOOP then
      local tickets = redis.call('ZRANGE', c.P .. ':life:' .. life, 0, POOL.MAX_LOOP - #found)
      for _, id in ipairs(tickets) do found[#found + 1] = id end
    end
  end
  return found
end

-- End what belonged to lives that are gone, leases in use first, MAX_LOOP at most; a life is forgotten with its
-- last ticket.
local function bury(c)
  local gone, models = {}, {}
  for _, life in ipairs(broker_lives.all(c)) do
    if beat_of(c, life) == POOL.GONE then gone[#gone + 1] = life end
  end
  if #gone == 0 then return end
  local found = belongings_of(c, gone)
  for at = 1, math.min(#found, POOL.MAX_LOOP) do
    local lease = rows.lease(c, found[at])
    if not has(models, lease.model) then models[#models + 1] = lease.model end
    lose(c, lease)
  end
  if #found <= POOL.MAX_LOOP then redis.call('ZREM', brokers_key(c), unpack(gone)) end
  for _, model in ipairs(sorted(models)) do handout.hand_out(c, model) end
end

local function is_gone(c, life, why)
  if beat_of(c, life) == POOL.GONE then return end
  redis.call('ZADD', brokers_key(c), POOL.GONE, life)
  events.emit(c, 'broker', {'who', 'broker:' .. life, 'why', why, 'to', 'gone'})
end

-- A beat is missed only where somebody was there to miss it: two signs of life further apart count for WATCH_STEP_MS.
local function watched(c)
  local meta = c.P .. ':meta'
  local known = redis.call('HMGET', meta, 'watch', 'watched')
  local now = int(known[1]) + math.min(math.max(c.now - int(known[2]), 0), POOL.WATCH_STEP_MS)
  redis.call('HSET', meta, 'watch', s(now), 'watched', c.now_text)
  return now
end

local function name_of(life)
  local name = string.match(life, '^([^/ ]+)/[^/ ]+$')
  if name == nil then refuse('BAD_ARGUMENT', 'a life is <name>/<boot>') end
  return name
end

local function live(c, life, why)
  if beat_of(c, life) == nil then
    events.emit(c, 'broker', {'who', 'broker:' .. life, 'why', why, 'to', 'alive'})
  else
    broker_lives.require(c, life)
  end
  redis.call('ZADD', brokers_key(c), watched(c), life)
end

function broker_lives.begin(c, life)
  local name = name_of(life)
  if beat_of(c, life) == nil then
    for _, other in ipairs(broker_lives.all(c)) do
      if name_of(other) == name then is_gone(c, other, 'superseded') end
    end
  end
  live(c, life, 'started')
  bury(c)
end

function broker_lives.rejoin(c, life)
  name_of(life)
  live(c, life, 'again')
end

function broker_lives.beat(c, life)
  broker_lives.require(c, life)
  redis.call('ZADD', brokers_key(c), watched(c), life)
end

function broker_lives.finish(c, life)
  if beat_of(c, life) == nil then return end
  is_gone(c, life, 'stopped')
  bury(c)
end

function broker_lives.watch(c)
  local now = watched(c)
  for _, life in ipairs(broker_lives.all(c)) do
    if now - beat_of(c, life) >= rows.rule(c, 'broker_silence_ms') then is_gone(c, life, 'missed') end
  end
  bury(c)
end

end
