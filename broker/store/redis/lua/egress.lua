-- Marks of private sessions, and spending: twin of privacy_marks.py and spending.py in `broker/store/memory/`.

local egress = {}
do

-- A mark is renewed by every private request; those that are idle go here, so the set never holds more than it must.
local function mark_at(c, own, crowd, at, limit)
  local key = c.P .. ':private'
  local fits = redis.call('ZSCORE', key, own) or redis.call('ZCARD', key) < limit
  local mark = fits and own or crowd
  local known = redis.call('ZSCORE', key, mark)
  if not known or tonumber(known) < at then redis.call('ZADD', key, s(at), mark) end
end

-- A broker process is heard of: in this incarnation it has told all it knows, or has not yet.
local function hear(c, name, told)
  redis.call('HSET', c.P .. ':witnesses', name, (told == c.inc and c.inc or '') .. ' ' .. c.now_text)
end

-- args: idle_ms, limit, the process that knows of it, the incarnation in which it told; then names of the session, each
-- with the crowd's mark that it may share
function egress.mark_private(c, args)
  local idle_ms, limit = whole(args[1]), whole(args[2])
  redis.call('ZREMRANGEBYSCORE', c.P .. ':private', '-inf', s(c.now - idle_ms))
  for i = 5, #args, 2 do mark_at(c, args[i], args[i + 1], c.now, limit) end
  hear(c, args[3], args[4])
  return c.inc
end

-- args: idle_ms, limit, then of each mark itself, the crowd's that it may share, and how long ago it was made
function egress.mark_again(c, args)
  local idle_ms, limit = whole(args[1]), whole(args[2])
  for i = 3, #args, 3 do
    local age = whole(args[i + 2])
    if age < idle_ms then mark_at(c, args[i], args[i + 1], c.now - age, limit) end
  end
  return c.inc
end

local function witnesses(c)
  local all, found = redis.call('HGETALL', c.P .. ':witnesses'), {}
  for i = 1, #all, 2 do
    local inc, beat = string.match(all[i + 1], '^(%S*) (%d+)$')
    found[#found + 1] = {name = all[i], inc = inc, silent_ms = c.now - tonumber(beat)}
  end
  table.sort(found, function(a, b) return a.name < b.name end)
  return found
end

-- May a mark of the time before this incarnation be missing? Whoever was there then must have told first.
local function is_unsettled(c, idle_ms)
  if frame.is_another_server(c) then return true end
  local since_ms = c.wall - tonumber(string.match(c.inc, '%-(%d+)$'))
  if since_ms < POOL.FIRST_MS and rows.rule(c, 'inc_no') > 1 then return true end
  for _, one in ipairs(witnesses(c)) do
    if one.inc ~= c.inc and one.silent_ms < idle_ms then return true end
  end
  return false
end

-- args: idle_ms, then marks of the session, its own and the crowds'
function egress.is_private(c, args)
  local idle_ms = whole(args[1])
  local since_ms = math.max(c.wall - tonumber(string.match(c.inc, '%-(%d+)$')), 0)
  for i = 2, #args do
    local at = redis.call('ZSCORE', c.P .. ':private', args[i])
    if at and c.now - tonumber(at) < idle_ms then return {'private', c.inc, s(since_ms)} end
  end
  return {is_unsettled(c, idle_ms) and 'unsettled' or 'clear', c.inc, s(since_ms)}
end

-- args: the process, the incarnation in which it told its marks, idle_ms, then others that it knows of.
-- One that is silent in the incarnation in which it told is forgotten: its marks are here. One that did not tell is
-- waited for as long as a mark of it would live.
function egress.witness(c, args)
  local idle_ms = whole(args[3])
  hear(c, args[1], args[2])
  for i = 4, #args do
    if redis.call('HEXISTS', c.P .. ':witnesses', args[i]) == 0 then hear(c, args[i], '') end
  end
  local reply = {c.inc}
  for _, one in ipairs(witnesses(c)) do
    if one.silent_ms >= (one.inc == c.inc and POOL.SILENT_MS or idle_ms) then
      redis.call('HDEL', c.P .. ':witnesses', one.name)
    else
      reply[#reply + 1], reply[#reply + 2] = one.name, one.inc == c.inc and '1' or '0'
    end
  end
  return reply
end

function egress.bow_out(c, name, told)
  if told == c.inc then redis.call('HDEL', c.P .. ':witnesses', name) end
end

-- args: micro, kept_ms, then of each account its period, whose, its limit ('': none)
function egress.spend(c, args)
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

function egress.spent(c, args)
  local found = {}
  for i = 1, #args, 2 do
    found[#found + 1] = redis.call('HGET', c.P .. ':spent:' .. args[i], args[i + 1]) or '0'
  end
  return found
end

end
