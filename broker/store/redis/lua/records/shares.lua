-- Sessions take turns: start-time fair queueing on lease time. Twin of broker/pool/records/shares.py.
local shares = {}
do

local function shares_key(c, model) return c.P .. ':share:' .. model end
local function turn_key(c, model) return c.P .. ':turn:' .. model end

function shares.turn_score(lease) return s(RANK[lease.priority] * POOL.TURN_STEP + int(lease.turn)) end

-- Equal turns are served in order of arrival: members of one score sort by their text.
function shares.turn_member(lease) return string.format('%016.0f', int(lease.arrival)) .. lease.id end

-- Ids in order of service, from the `first`th to the `last`th (0 is the first).
function shares.in_turn(c, model, first, last)
  local ids = redis.call('ZRANGE', turn_key(c, model), first, last)
  for i, member in ipairs(ids) do ids[i] = string.sub(member, 17) end
  return ids
end

local function forget_if_empty(c, lease)
  local model = rows.model(c, lease.model)
  if int(model.queued) > 0 then return end
  redis.call('DEL', shares_key(c, lease.model))
  if int(model.turn) > 0 then rows.put(model, 'turn', '0') end
end

local function units(model, length_ms)
  local mean = int(model.hold_ms)
  if int(model.hold_n) == 0 or mean <= 0 or length_ms <= 0 then return POOL.MEAN_LEASE end
  return math.min(math.max(math.floor(POOL.MEAN_LEASE * length_ms / mean), POOL.SHORTEST), POOL.LONGEST)
end

function shares.charge(c, lease)
  local model, key = rows.model(c, lease.model), shares_key(c, lease.model)
  local cost = units(model, int(lease.expected_ms))
  local turn = math.max(int(model.turn), int(redis.call('ZSCORE', key, lease.sh)))
  rows.put(lease, 'cost', s(cost))
  rows.put(lease, 'turn', s(turn))
  redis.call('ZADD', key, s(turn + cost), lease.sh)
  redis.call('ZADD', turn_key(c, lease.model), shares.turn_score(lease), shares.turn_member(lease))
end

local function correct(c, lease, used)
  local model, cost = rows.model(c, lease.model), int(lease.cost)
  if cost == 0 or int(model.queued) == 0 then return forget_if_empty(c, lease) end
  local key, now = shares_key(c, lease.model), int(model.turn)
  local finish = redis.call('ZSCORE', key, lease.sh)
  finish = (finish and int(finish) or math.min(int(lease.turn) + cost, now)) + used - cost
  if finish > now then
    redis.call('ZADD', key, s(finish), lease.sh)
  else
    redis.call('ZREM', key, lease.sh)
  end
end

-- It was refunded and stays in line after all, for another session perhaps; it keeps its turn.
function shares.charge_again(c, lease)
  local key = shares_key(c, lease.model)
  local finish = math.max(int(rows.model(c, lease.model).turn), int(redis.call('ZSCORE', key, lease.sh)))
  redis.call('ZADD', key, s(finish + int(lease.cost)), lease.sh)
end

function shares.refund(c, lease) correct(c, lease, 0) end

function shares.settle(c, lease, held_ms)
  local model = rows.model(c, lease.model)
  if int(model.queued) > 0 then correct(c, lease, units(model, held_ms)) end -- else all was forgotten with the line
end

function shares.advance(c, lease)
  local model, turn = rows.model(c, lease.model), int(lease.turn)
  if turn > int(model.turn) then rows.put(model, 'turn', s(turn)) end
  redis.call('ZREMRANGEBYSCORE', shares_key(c, lease.model), '-inf', s(int(model.turn)))
  forget_if_empty(c, lease)
end

end
