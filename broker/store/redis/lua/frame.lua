-- The frame around every function: the clock and the counters, what changed is written at its end, what happened.

local function emit(c, kind, fields)
  c.seq = c.seq + 1
  local kept = 0 -- words moved together over the empty ones
  for i = 1, #fields, 2 do
    local value = fields[i + 1]
    if value ~= '' then
      fields[kept + 1], fields[kept + 2] = fields[i], value
      kept = kept + 2
    end
  end
  redis.call('XADD', c.P .. ':events', 'MAXLEN', '~', POOL.EVENTS_KEPT, '*', 'seq', c.seq, 'type', kind, 't', c.now,
    unpack(fields, 1, kept))
end

local function gen_of(row)
  if not row.gen or row.gen == '0' then return '' end
  return row.gen
end

-- In one pass: nearly every call has one, so no list is built to be sifted.
local function emit_lease(c, kind, lease, who, from, why)
  local words, last = {nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil}, 0
  local told = LEASE.EVENT_WORDS
  for i = 1, #told, 2 do
    local value = lease[told[i + 1]]
    if value and value ~= '' and value ~= '0' then
      words[last + 1], words[last + 2] = told[i], value
      last = last + 2
    end
  end
  words[last + 1], words[last + 2] = 'who', who
  last = last + 2
  if why ~= '' then
    words[last + 1], words[last + 2] = 'why', why
    last = last + 2
  end
  if from ~= '' then
    words[last + 1], words[last + 2] = 'from', from
    last = last + 2
  end
  words[last + 1], words[last + 2] = 'to', lease.state
  c.seq = c.seq + 1
  redis.call('XADD', c.P .. ':events', 'MAXLEN', '~', POOL.EVENTS_KEPT, '*', 'seq', c.seq, 'type', kind, 't', c.now,
    unpack(words, 1, last + 2))
end

-- The logical clock: never backwards, forward at most max_step per call.
local function open(keys)
  local time = redis.call('TIME')
  local c = {
    P = keys[1], rows = {}, order = {nil, nil, nil, nil}, keys = {nil, nil, nil, nil}, count = 0, rules = {},
    wall = time[1] * 1000 + math.floor(time[2] / 1000), seq = nil, arrival = nil, queued = nil, run = nil, inc = nil,
    now = nil, now_text = nil, step = nil, max_step = nil, arrival_was = nil, queued_was = nil, expiries = nil,
  }
  changes_of = {}
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

local function fields_of(lease)
  local fields, last = {}, 0
  for i = 1, #LEASE.FIELDS do
    local value = lease[LEASE.FIELDS[i]]
    if value ~= nil then
      fields[last + 1], fields[last + 2] = LEASE.FIELDS[i], value
      last = last + 2
    end
  end
  return fields
end

local function flush(c)
  for at = 1, c.count do
    local row = c.order[at]
    local changes = changes_of[row]
    if changes ~= nil then
      redis.call('HSET', c.keys[at], unpack(changes == FRESH and fields_of(row) or changes))
      changes_of[row] = nil
    end
  end
end

local function close(c)
  flush(c)
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

local function expire_key(c, key, ttl_ms)
  c.expiries = c.expiries or {}
  c.expiries[#c.expiries + 1] = {key, s(ttl_ms)}
end

local function failure(problem)
  if type(problem) == 'table' and problem.code then
    return redis.error_reply(problem.code .. ' ' .. problem.message)
  end
  if type(problem) == 'table' and problem.err then return problem end
  return redis.error_reply('INTERNAL ' .. tostring(problem))
end

local UNINITIALISED = 'UNINITIALISED the pool is not initialised'
local recover -- slots/registration.lua

local function is_another_server(c) return c.run ~= run_id() end

local function writer(body)
  return function(keys, args)
    local c = open(keys)
    if c == nil then return redis.error_reply(UNINITIALISED) end
    if c.step < 0 or c.step > c.max_step then
      emit(c, 'clock_step', {'who', 'scheduler', 'why', s(c.step) .. ' ms'})
    end
    if is_another_server(c) then recover(c, run_id()) end
    local ok, reply = pcall(body, c, args)
    close(c)
    if ok then return reply end
    return failure(reply)
  end
end

local function reader(body)
  return function(keys, args)
    local c = open(keys)
    if c == nil then return redis.error_reply(UNINITIALISED) end
    local ok, reply = pcall(body, c, args)
    if ok then return reply end
    return failure(reply)
  end
end
