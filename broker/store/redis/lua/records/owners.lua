-- Whose a lease is: a broker's life that serves it, or a client's that was sent away and is expected back.
-- Twin of broker/pool/records/owners.py.
local owners = {}
do

local function life_key(c, life) return c.P .. ':life:' .. life end
local function place_key(c, place) return c.P .. ':place:' .. place end
local function left_key(c, name) return c.P .. ':left:' .. name end

-- A client waits for this ticket, at the broker of its life.
function owners.join(c, lease)
  if (lease.life or '') ~= '' then redis.call('ZADD', life_key(c, lease.life), lease.arrival, lease.id) end
  if (lease.place or '') ~= '' then redis.call('ZADD', place_key(c, lease.place), lease.arrival, lease.id) end
end

-- It left the line, or its client did.
function owners.leave(c, lease)
  if (lease.life or '') ~= '' then redis.call('ZREM', life_key(c, lease.life), lease.id) end
  if (lease.place or '') ~= '' then redis.call('ZREM', place_key(c, lease.place), lease.id) end
end

-- Tickets for requests alike that arrived later, the oldest first.
function owners.attended(c, place, after)
  local found = {}
  local ids = redis.call('ZRANGEBYSCORE', place_key(c, place), '(' .. after, '+inf', 'LIMIT', 0, POOL.MAX_LOOP)
  for i, id in ipairs(ids) do found[i] = rows.lease(c, id) end
  return found
end

function owners.by_session(of) return of.sh .. ':' .. of.model end

local function names_of(lease)
  local names = {}
  if (lease.place or '') ~= '' then names[1] = lease.place end
  if lease.named == '1' then names[#names + 1] = owners.by_session(lease) end
  return names
end

-- So that an acquire need not look for what is not there. A place that is kept matters only to who has to wait.
local function count_left(c, lease, number)
  if int(lease.kept) > 0 then return end
  local key = c.P .. ':session:' .. lease.sh
  if redis.call('HINCRBY', key, 'left', number) == 0 then redis.call('HDEL', key, 'left') end
end

local function forget_oldest(c, key)
  local id = redis.call('ZRANGE', key, 0, 0)[1]
  local lease = rows.lease(c, id)
  if lease.state ~= nil then owners.forget(c, lease) else redis.call('ZREM', key, id) end
end

function owners.remember(c, lease, back_ms)
  rows.put(lease, 'left', s(back_ms))
  count_left(c, lease, 1)
  for _, name in ipairs(names_of(lease)) do
    local key = left_key(c, name)
    redis.call('ZADD', key, lease.arrival, lease.id)
    if redis.call('ZCARD', key) > POOL.MOST_LEFT then forget_oldest(c, key) end
    frame.expire_key(c, key, rows.rule(c, 'op_ttl_ms'))
  end
end

function owners.forget(c, lease)
  if int(lease.left) == 0 then return end
  rows.put(lease, 'left', '0')
  count_left(c, lease, -1)
  for _, name in ipairs(names_of(lease)) do redis.call('ZREM', left_key(c, name), lease.id) end
end

-- It has another arrival number.
function owners.moved(c, lease)
  if int(lease.left) > 0 then
    for _, name in ipairs(names_of(lease)) do redis.call('ZADD', left_key(c, name), lease.arrival, lease.id) end
  else
    owners.join(c, lease)
  end
end

-- What was left behind under a name, the oldest first, until `look` has found what it looks for; what is over is
-- forgotten on the way, and not more than MAX_LOOP are looked at.
function owners.look_through(c, name, look)
  local key = left_key(c, name)
  for _, id in ipairs(redis.call('ZRANGE', key, 0, POOL.MAX_LOOP - 1)) do
    local lease = rows.lease(c, id)
    if lease.state == nil then
      redis.call('ZREM', key, id)
    elseif lease.state == 'ended' and c.now >= int(lease.kept) then
      owners.forget(c, lease)
    elseif look(lease) then
      return
    end
  end
end

end
