-- The frame around every function: the clock and the counters, and what is written at its end.
local frame = {}
do

local RUN_ID = nil -- read once in the life of this server process; a restarted or promoted server has its own

function frame.run_id()
  if RUN_ID == nil then
    local info = redis.pcall('INFO', 'server')
    RUN_ID = type(info) == 'string' and string.match(info, 'run_id:(%x+)') or 'none'
  end
  return RUN_ID
end

-- The logical clock: never backwards, forward at most max_step per call.
function frame.open(keys)
  local time = redis.call('TIME')
  local c = {
    P = keys[1], rows = {}, order = {nil, nil, nil, nil}, keys = {nil, nil, nil, nil}, count = 0, rules = {},
    wall = time[1] * 1000 + math.floor(time[2] / 1000), seq = nil, arrival = nil, queued = nil, run = nil, inc = nil,
    now = nil, now_text = nil, step = nil, max_step = nil, arrival_was = nil, queued_was = nil, expiries = nil,
  }
  rows.begin()
  local meta = redis.call('HMGET', c.P .. ':meta', 'clock_wall', 'clock_log', 'seq', 'arrival', 'queued', 'run', 'inc',
    'max_step_ms', 'ended_ttl_ms')
  if not meta[6] then return nil, c end
  c.seq, c.arrival, c.queued, c.run, c.inc = int(meta[3]), int(meta[4]), int(meta[5]), meta[6], meta[7]
  c.arrival_was, c.queued_was, c.rules.ended_ttl_ms = c.arrival, c.queued, int(meta[9])
  c.step, c.max_step = c.wall - int(meta[1]), int(meta[8])
  c.now = int(meta[2]) + math.min(math.max(c.step, 0), c.max_step)
  c.now_text = s(c.now)
  return c
end

function frame.close(c)
  rows.flush(c)
  local meta = c.P .. ':meta'
  if c.arrival == c.arrival_was and c.queued == c.queued_was then
    redis.call('HSET', meta, 'clock_wall', c.wall, 'clock_log', c.now, 'seq', c.seq)
  else
    redis.call('HSET', meta, 'clock_wall', c.wall, 'clock_log', c.now, 'seq', c.seq, 'arrival', c.arrival,
      'queued', c.queued)
  end
  for _, key in ipairs(c.dropped or {}) do redis.call('DEL', key) end
  for _, expiry in ipairs(c.expiries or {}) do redis.call('PEXPIRE', expiry[1], expiry[2]) end
end

function frame.expire_key(c, key, ttl_ms)
  c.expiries = c.expiries or {}
  c.expiries[#c.expiries + 1] = {key, s(ttl_ms)}
end

function frame.failure(problem)
  if type(problem) == 'table' and problem.code then
    return redis.error_reply(problem.code .. ' ' .. problem.message)
  end
  if type(problem) == 'table' and problem.err then return problem end
  return redis.error_reply('INTERNAL ' .. tostring(problem))
end

local UNINITIALISED = 'UNINITIALISED the pool is not initialised'
-- `frame.recover` is put here by slots/registration.lua, which stands further down.

function frame.is_another_server(c) return c.run ~= frame.run_id() end

function frame.writer(body)
  return function(keys, args)
    local c = frame.open(keys)
    if c == nil then return redis.error_reply(UNINITIALISED) end
    if c.step < 0 or c.step > c.max_step then
      events.emit(c, 'clock_step', {'who', 'scheduler', 'why', s(c.step) .. ' ms'})
    end
    if frame.is_another_server(c) then frame.recover(c, frame.run_id()) end
    local ok, reply = pcall(body, c, args)
    frame.close(c)
    if ok then return reply end
    return frame.failure(reply)
  end
end

function frame.reader(body)
  return function(keys, args)
    local c = frame.open(keys)
    if c == nil then return redis.error_reply(UNINITIALISED) end
    local ok, reply = pcall(body, c, args)
    if ok then return reply end
    return frame.failure(reply)
  end
end

end
