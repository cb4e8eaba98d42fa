-- Past days: see `broker/store/days.py`.
local days = {}
do

-- args: day, source, number, kept_ms, then of each count its field and what to add
function days.add(c, args)
  local key, from, number, kept_ms = c.P .. ':day:' .. args[1], 'from|' .. args[2], whole(args[3]), whole(args[4])
  if number <= int(redis.call('HGET', key, from) or '0') then return end
  for i = 5, #args, 2 do redis.call('HINCRBY', key, args[i], args[i + 1]) end
  redis.call('HSET', key, from, s(number))
  redis.call('PEXPIRE', key, s(kept_ms))
end

function days.read(c, args) return redis.call('HGETALL', c.P .. ':day:' .. args[1]) end

end
