-- Whose a lease is: a broker's life that serves it, or a client's that was sent away and is expected back.
-- Twin of broker/core/pool_left.py.
local join_life, leave_life, remember, forget_left, moved, left_by
do

local MOST_LEFT = 200

local function life_key(c, life) return c.P .. ':life:' .. life end
-- So that an acquire need not look for what is not there. A place that is kept matters only to who has to wait.
local function count_left(c, lease, number)
  if int(lease.kept) > 0 then return end
  local key = c.P .. ':session:' .. lease.sh
  if redis.call('HINCRBY', key, 'left', number) == 0 then redis.call('HDEL', key, 'left') end
end

local function left_key(c, lease) return c.P .. ':left:' .. lease.sh .. ':' .. lease.model end

function join_life(c, lease)
  if (lease.life or '') ~= '' then redis.call('ZADD', life_key(c, lease.life), lease.arrival, lease.id) end
end

function leave_life(c, lease)
  if (lease.life or '') ~= '' then redis.call('ZREM', life_key(c, lease.life), lease.id) end
end

function remember(c, lease, back_ms)
  local key = left_key(c, lease)
  put(lease, 'left', s(back_ms))
  count_left(c, lease, 1)
  redis.call('ZADD', key, lease.arrival, lease.id)
  if redis.call('ZCARD', key) > MOST_LEFT then
    local id = redis.call('ZRANGE', key, 0, 0)[1]
    local oldest = lease_row(c, id)
    if oldest.state ~= nil then forget_left(c, oldest) else redis.call('ZREM', key, id) end
  end
  expire_key(c, key, rule(c, 'op_ttl_ms'))
end

function forget_left(c, lease)
  if int(lease.left) == 0 then return end
  put(lease, 'left', '0')
  count_left(c, lease, -1)
  redis.call('ZREM', left_key(c, lease), lease.id)
end

-- It has another arrival number.
function moved(c, lease)
  if int(lease.left) > 0 then
    redis.call('ZADD', left_key(c, lease), lease.arrival, lease.id)
  else
    join_life(c, lease)
  end
end

-- Everything that a session left behind, the oldest first; what is over is forgotten here.
function left_by(c, of)
  local found, key = {}, left_key(c, of)
  for _, id in ipairs(redis.call('ZRANGE', key, 0, -1)) do
    local lease = lease_row(c, id)
    if lease.state == nil then
      redis.call('ZREM', key, id)
    elseif lease.state == 'ended' and c.now >= int(lease.kept) then
      forget_left(c, lease)
    else
      found[#found + 1] = lease
    end
  end
  return found
end

end
