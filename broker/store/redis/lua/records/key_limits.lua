-- What each API key has in a pool: its live leases, how many it may have, what is kept of it to be asked about.
-- Twin of broker/pool/records/key_limits.py.
local key_limits = {}
do

key_limits.ERRORS_KEPT_MS = 604800000

local function mine_key(c, who) return c.P .. ':mine:' .. who end

function key_limits.join(c, lease) redis.call('ZADD', mine_key(c, lease.who), lease.arrival, lease.id) end

function key_limits.leave(c, lease) redis.call('ZREM', mine_key(c, lease.who), lease.id) end

function key_limits.count(c, who) return redis.call('ZCARD', mine_key(c, who)) end

-- All of them, by when they were asked for.
function key_limits.ids(c, who) return redis.call('ZRANGE', mine_key(c, who), 0, -1) end

function key_limits.refuse_full(c, who, number, what)
  local most = rows.rule(c, 'max_queue')
  if number < most then return end
  local share, own = math.max(math.floor(most / POOL.SHARE), 1), key_limits.count(c, who)
  if number >= POOL.BEYOND * most or own >= share then
    refuse('QUEUE_FULL', 'there are ' .. s(number) .. ' ' .. what .. ', and ' .. s(own) .. ' leases of this key')
  end
end

local function forget(c, kept)
  local kind, name = string.match(kept, '^(%a+):(.*)$')
  if kind == 'seq' then
    redis.call('HDEL', c.P .. ':session:' .. name, 'seq')
  else -- a row of this call is written at its end: deleted after that
    c.dropped = c.dropped or {}
    c.dropped[#c.dropped + 1] = c.P .. ':' .. kind .. ':' .. name
  end
end

-- Of each key so much is kept to be asked about; the oldest goes first.
function key_limits.keep(c, who, name)
  local key, most = c.P .. ':kept:' .. who, rows.rule(c, 'max_kept')
  redis.call('ZADD', key, c.now_text, name)
  local number = redis.call('ZCARD', key)
  if number == 1 then frame.expire_key(c, key, POOL.KEPT_TTLS * rows.rule(c, 'op_ttl_ms')) end
  if most > 0 and number > most then
    local first = redis.call('ZRANGE', key, 0, 0)[1]
    redis.call('ZREM', key, first)
    forget(c, first)
  end
end

end
