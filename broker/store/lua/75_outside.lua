-- Private sessions and money: see `broker/store/outside.py`.

-- A mark is renewed by every private request; those that are idle go here, so the set never holds more than it must.
local function mark_private(c, own, crowd, idle_ms, limit)
  local key = c.P .. ':private'
  redis.call('ZREMRANGEBYSCORE', key, '-inf', s(c.now - idle_ms))
  local fits = redis.call('ZSCORE', key, own) or redis.call('ZCARD', key) < limit
  redis.call('ZADD', key, s(c.now), fits and own or crowd)
end

local function is_private(c, own, crowd, idle_ms)
  for _, mark in ipairs({own, crowd}) do
    local at = redis.call('ZSCORE', c.P .. ':private', mark)
    if at and c.now - tonumber(at) < idle_ms then return 1 end
  end
  return 0
end

-- args: micro, kept_ms, then of each account its period, whose, its limit ('': none)
local function spend(c, args)
  local micro = tonumber(args[1])
  for i = 3, #args, 3 do
    local spent = tonumber(redis.call('HGET', c.P .. ':spent:' .. args[i], args[i + 1]) or '0')
    if args[i + 2] ~= '' and spent + micro > tonumber(args[i + 2]) then return 0 end
  end
  for i = 3, #args, 3 do
    local key = c.P .. ':spent:' .. args[i]
    if redis.call('HINCRBY', key, args[i + 1], args[1]) < 0 then redis.call('HSET', key, args[i + 1], '0') end
    redis.call('PEXPIRE', key, args[2])
  end
  return 1
end

local function spent(c, args)
  local found = {}
  for i = 1, #args, 2 do
    found[#found + 1] = redis.call('HGET', c.P .. ':spent:' .. args[i], args[i + 1]) or '0'
  end
  return found
end
