-- Handing out: a waiting ticket becomes a lease in the same call that made room for it.
local handout = {}
do

function handout.queue_key(c, model) return c.P .. ':queue:' .. model end
function handout.held_key(c, slot, model) return c.P .. ':held:' .. slot .. ':' .. model end
function handout.score(lease) return s(RANK[lease.priority] * POOL.RANK_STEP + int(lease.arrival)) end

local function head_of(id, at)
  local rank = math.floor(int(at) / POOL.RANK_STEP)
  return {id = id, rank = rank, arrival = int(at) - rank * POOL.RANK_STEP}
end

-- The oldest ticket of each class that has one. Most queues hold one class only: two look-ups.
local function heads_of(c, model)
  local key = handout.queue_key(c, model)
  local first = redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')
  if #first == 0 then return {} end
  local last = redis.call('ZRANGE', key, -1, -1, 'WITHSCORES')
  local heads = {head_of(first[1], first[2])}
  local highest = head_of(last[1], last[2]).rank
  for rank = heads[1].rank + 1, highest do
    local found = redis.call('ZRANGEBYSCORE', key, s(rank * POOL.RANK_STEP), s((rank + 1) * POOL.RANK_STEP - 1),
      'WITHSCORES', 'LIMIT', 0, 1)
    if #found > 0 then heads[#heads + 1] = head_of(found[1], found[2]) end
  end
  return heads
end

-- broker/pool/records/ordering.py: 1. the overdue, lowest arrival first; 2. else who is next in turn; 3. behind a
-- barrier the oldest of the highest class.
local function next_ticket(c, heads, admit, turn)
  local overdue, highest = nil, nil
  for _, head in ipairs(heads) do
    if head.arrival < admit then
      if highest == nil then highest = head end
      if #heads > 1 or head.id ~= turn then
        local waited = c.now - int(redis.call('HGET', c.P .. ':lease:' .. head.id, 'enq'))
        if waited >= rows.rule(c, 'max_wait_ms:' .. PRIORITIES[head.rank + 1])
          and (overdue == nil or head.arrival < overdue.arrival) then
          overdue = head
        end
      end
    end
  end
  if overdue == nil and highest ~= nil and s(admit) == POOL.ADMIT_ALL then return {id = turn} end
  return overdue or highest
end

-- Ready residencies with a free place, the least used first, ties by slot name (`ready` is sorted).
function handout.places(c, model)
  local found, limit = {}, int(model.lease_limit)
  for at, slot in ipairs(words(model.ready)) do
    if rows.slot_state(c, slot) == 'open' then
      local residency = rows.residency(c, slot, model.name)
      local use = int(residency.use)
      if use < limit then found[#found + 1] = {slot = slot, residency = residency, use = use, at = at} end
    end
  end
  if #found > 1 then
    table.sort(found, function(a, b)
      if a.use ~= b.use then return a.use < b.use end
      return a.at < b.at
    end)
  end
  return found
end

function handout.set_deadline(c, lease, deadline)
  rows.put(lease, 'deadline', s(deadline))
  redis.call('ZADD', c.P .. ':due', deadline, lease.id)
end

function handout.session_count(c, lease, number)
  local key = c.P .. ':session:' .. lease.sh
  if redis.call('HINCRBY', key, 'queued', number) == 0 then redis.call('HDEL', key, 'queued') end
end

local function count_queued(c, lease, number)
  local model = rows.model(c, lease.model)
  rows.add(model, 'queued', number)
  if lease.only_warm == '1' then rows.add(model, 'only_warm', number) end
  local expected = int(lease.expected_ms)
  if expected > 0 then
    rows.add(model, 'expected_ms', number * expected)
    rows.add(model, 'estimated', number)
  end
  c.queued = c.queued + number
  handout.session_count(c, lease, number)
  if number < 0 and int(model.queued) == 0 then rows.put(model, 'deserted', c.now_text) end
end

function handout.enqueue(c, lease, waiter_ttl_ms)
  redis.call('ZADD', handout.queue_key(c, lease.model), handout.score(lease), lease.id)
  shares.charge(c, lease)
  count_queued(c, lease, 1)
  owners.join(c, lease)
  handout.set_deadline(c, lease, c.now + waiter_ttl_ms)
  events.emit_lease(c, 'queued', lease, lease.who, '', '')
end

function handout.unqueue(c, lease)
  redis.call('ZREM', handout.queue_key(c, lease.model), lease.id)
  redis.call('ZREM', c.P .. ':turn:' .. lease.model, shares.turn_member(lease))
  count_queued(c, lease, -1)
  owners.leave(c, lease)
end

function handout.arrow(state, event)
  local to = TRANSITIONS[state][event]
  if to == nil then refuse('INTERNAL', 'a lease that is ' .. state .. ' cannot ' .. event) end
  return to
end

function handout.grant(c, lease, slot, residency, claimed, from)
  rows.put(lease, 'state', handout.arrow('queued', 'grant'))
  rows.put(lease, 'slot', slot)
  rows.put(lease, 'gen', residency.gen)
  rows.put(lease, 'granted', c.now_text)
  local ttl = int(lease.ttl_ms)
  if claimed then
    rows.put(lease, 'claimed', '1')
  else
    ttl = math.min(ttl, rows.rule(c, 'claim_ttl_ms'))
  end
  handout.set_deadline(c, lease, c.now + ttl)
  rows.add(residency, 'use', 1)
  rows.put(residency, 'used_at', c.now_text)
  if residency.prefetched == '1' then -- the guess was right
    rows.put(residency, 'prefetched', '')
    local model = rows.model(c, lease.model)
    rows.put(model, 'wrong_guesses', s(math.floor(int(model.wrong_guesses) / 2)))
  end
  redis.call('ZADD', handout.held_key(c, slot, lease.model), c.now, lease.id)
  events.emit_lease(c, 'granted', lease, lease.who, from, '')
end

local function grant_next(c, model, claimer)
  local heads, turn = heads_of(c, model.name), shares.in_turn(c, model.name, 0, 0)[1]
  for _, place in ipairs(handout.places(c, model)) do
    local head = next_ticket(c, heads, int(place.residency.admit), turn)
    if head ~= nil then
      local lease = rows.lease(c, head.id)
      handout.unqueue(c, lease)
      shares.advance(c, lease)
      handout.grant(c, lease, place.slot, place.residency, lease.id == claimer, 'queued')
      return true
    end
  end
  return false
end

-- Grant while there is a ticket and a place for it. `claimer`: the ticket whose client hears of it in this reply.
function handout.hand_out(c, name, claimer)
  local model = rows.model(c, name)
  for _ = 1, POOL.MAX_LOOP do
    if int(model.queued) == 0 or (model.ready or '') == '' or not grant_next(c, model, claimer) then return end
  end
end

end
