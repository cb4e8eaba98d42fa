-- Rows: hashes read once per call and written once at its end; the frame around every function.
--
-- A body reads rows, validates, then changes rows and indexes; a refusal is raised before the first change. Redis
-- isolates but does not roll back, so nothing that can fail stands after a change.

local RANK_STEP = 4398046511104 -- 2^42
local ADMIT_ALL = '9007199254740991' -- 2^53 - 1
local MAX_LOOP = 200
local SURVIVED_MS = 60000
local SHOWN, CHECKED = 10, 1000 -- tickets that a table, a check looks at
local EVENTS_KEPT, RINGS_KEPT = '100000', '64'
local RUN_ID = nil -- read once in the life of this server process; a restarted or promoted server has its own

local function s(number) return string.format('%.0f', number) end

-- A number of ours; nothing is 0.
local function int(text) return tonumber(text) or 0 end

-- A number of somebody else's: a whole one, 0 for nonsense.
local function whole(text)
  local number = tonumber(text)
  if number == nil or number ~= number then return 0 end
  return math.floor(number)
end

local function refuse(code, message) error({code = code, message = message}) end

local function run_id()
  if RUN_ID == nil then
    local info = redis.pcall('INFO', 'server')
    RUN_ID = type(info) == 'string' and string.match(info, 'run_id:(%x+)') or 'none'
  end
  return RUN_ID
end

-- Byte order, whatever the server's locale says.
local function bytewise(a, b)
  for i = 1, math.min(#a, #b) do
    local x, y = string.byte(a, i), string.byte(b, i)
    if x ~= y then return x < y end
  end
  return #a < #b
end

local function words(text)
  local list = {}
  for word in string.gmatch(text or '', '%S+') do list[#list + 1] = word end
  return list
end

local function sorted(list)
  table.sort(list, bytewise)
  return list
end

local function has(list, wanted)
  for _, word in ipairs(list) do
    if word == wanted then return true end
  end
  return false
end

-- `text` with `word` in it or not, sorted.
local function listed(text, word, here)
  local list = {}
  for _, other in ipairs(words(text)) do
    if other ~= word then list[#list + 1] = other end
  end
  if here then list[#list + 1] = word end
  return table.concat(sorted(list), ' ')
end

-- A row is its fields. One that was read in part keeps its key under `KEY`, fetches what is missing when it is asked
-- for, and says `false` where the hash has nothing.
local KEY = {}
local dirty_of = {} -- of the running call: row to the fields that changed, in order
local FRESH = {} -- in place of those: the whole row is new
local LAZY = {
  __index = function(row, field)
    local value = redis.call('HGET', rawget(row, KEY), field)
    rawset(row, field, value)
    return value
  end,
}

local function complete(row)
  if getmetatable(row) == nil then return row end
  setmetatable(row, nil)
  local flat = redis.call('HGETALL', row[KEY])
  for i = 1, #flat, 2 do
    if not row[flat[i]] then row[flat[i]] = flat[i + 1] end
  end
  return row
end

-- `hot`: the fields to read at once.
local function row_at(c, key, hot)
  local row = c.rows[key]
  if row ~= nil then return row end
  row = {[KEY] = key, a = nil, b = nil, c = nil, d = nil, e = nil, f = nil, g = nil} -- room for the hot fields
  c.rows[key] = row
  local at = #c.order + 1
  c.order[at], c.keys[at] = row, key
  local values = redis.call('HMGET', key, unpack(hot))
  for i = 1, #hot do row[hot[i]] = values[i] end
  return setmetatable(row, LAZY)
end

local function put(row, field, value)
  row[field] = value
  local dirty = dirty_of[row]
  if dirty == nil then
    dirty_of[row] = {field, [field] = true}
  elseif dirty ~= FRESH and not dirty[field] then
    dirty[field] = true
    dirty[#dirty + 1] = field
  end
end

local function add(row, field, number) put(row, field, s(int(row[field]) + number)) end

-- Fields of a lease in the order in which people read them.
local LEASE_FIELDS = {
  'id', 'nonce', 'state', 'reason', 'session', 'sh', 'hh', 'model', 'intent', 'holder', 'priority', 'who', 'ttl_ms',
  'estimate_ms', 'expected_ms', 'arrival', 'enq', 'granted', 'deadline', 'ended', 'slot', 'gen', 'claimed', 'op', 'turn',
  'cost',
}

-- A lease is read as a whole: the answer shows nearly all of it.
local function lease_row(c, id)
  local key = c.P .. ':lease:' .. id
  local row = c.rows[key]
  if row ~= nil then return row end
  row = { -- room for all, so that the table does not grow step by step
    id = nil, nonce = nil, state = nil, reason = nil, session = nil, sh = nil, hh = nil, model = nil, intent = nil,
    holder = nil, priority = nil, who = nil, ttl_ms = nil, expected_ms = nil, arrival = nil, enq = nil, granted = nil,
    deadline = nil, slot = nil, gen = nil, claimed = nil, now = nil, url = nil, key = nil, residency = nil,
  }
  c.rows[key] = row
  local at = #c.order + 1
  c.order[at], c.keys[at] = row, key
  local flat = redis.call('HGETALL', key)
  for i = 1, #flat, 2 do row[flat[i]] = flat[i + 1] end
  return row
end
local HOT_MODEL = {'name', 'lease_limit', 'ready', 'queued', 'arrivals', 'arrived_at'}
local HOT_SLOT, HOT_TENANT = {'state'}, {'open', 'err'}
local HOT_RESIDENCY = {'state', 'gen', 'admit', 'use', 'url', 'key', 'progress'}

local function model_row(c, model) return row_at(c, c.P .. ':model:' .. model, HOT_MODEL) end
local function slot_row(c, slot) return row_at(c, c.P .. ':slot:' .. slot, HOT_SLOT) end
local function residency_row(c, slot, model)
  local row = row_at(c, c.P .. ':residency:' .. slot .. ':' .. model, HOT_RESIDENCY)
  if not row.state then row.state = 'absent' end
  return row
end
local function tenant_row(c, who) return row_at(c, c.P .. ':tenant:' .. who, HOT_TENANT) end

local function known_lease(c, id)
  local lease = lease_row(c, id)
  if not lease.state then refuse('NOT_FOUND', 'no lease ' .. id) end
  return lease
end

local function rule(c, name)
  local known = c.rules[name]
  if known == nil then
    known = int(redis.call('HGET', c.P .. ':meta', name))
    c.rules[name] = known
  end
  return known
end

-- ------------------------------------------------------------------------------------------------------ events
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
  redis.call('XADD', c.P .. ':events', 'MAXLEN', '~', EVENTS_KEPT, '*', 'seq', c.seq, 'type', kind, 't', c.now,
    unpack(fields, 1, kept))
end

local function gen_of(row)
  if not row.gen or row.gen == '0' then return '' end
  return row.gen
end

local function emit_lease(c, kind, lease, who, from, why)
  emit(c, kind, {
    'lease', lease.id, 'model', lease.model, 'slot', lease.slot or '', 'gen', gen_of(lease), 'sh', lease.sh,
    'intent', lease.intent, 'who', who, 'why', why, 'from', from, 'to', lease.state,
  })
end

-- ------------------------------------------------------------------------------------------------------- frame
-- The logical clock: never backwards, forward at most max_step per call.
local function open(keys)
  local time = redis.call('TIME')
  local c = {
    P = keys[1], rows = {}, order = {}, keys = {}, rules = {}, wall = time[1] * 1000 + math.floor(time[2] / 1000),
    seq = nil, arrival = nil, queued = nil, run = nil, inc = nil, now = nil, step = nil, max_step = nil,
    arrival_was = nil, queued_was = nil, expiries = nil,
  }
  dirty_of = {}
  local meta = redis.call('HMGET', c.P .. ':meta', 'clock_wall', 'clock_log', 'seq', 'arrival', 'queued', 'run', 'inc',
    'max_step_ms')
  if not meta[6] then return nil, c end
  c.seq, c.arrival, c.queued, c.run, c.inc = int(meta[3]), int(meta[4]), int(meta[5]), meta[6], meta[7]
  c.arrival_was, c.queued_was = c.arrival, c.queued
  c.step, c.max_step = c.wall - int(meta[1]), int(meta[8])
  c.now = int(meta[2]) + math.min(math.max(c.step, 0), c.max_step)
  return c
end

local function flush(c)
  for at, row in ipairs(c.order) do
    local dirty = dirty_of[row]
    if dirty ~= nil then
      local args, last = {c.keys[at]}, 1
      for _, field in ipairs(dirty == FRESH and LEASE_FIELDS or dirty) do
        local value = row[field]
        if value ~= nil then
          args[last + 1], args[last + 2] = field, value
          last = last + 2
        end
      end
      redis.call('HSET', unpack(args))
      dirty_of[row] = nil
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
local recover -- 60_slots.lua

local function writer(body)
  return function(keys, args)
    local c = open(keys)
    if c == nil then return redis.error_reply(UNINITIALISED) end
    if c.step < 0 or c.step > c.max_step then
      emit(c, 'clock_step', {'who', 'scheduler', 'why', s(c.step) .. ' ms'})
    end
    if c.run ~= run_id() then recover(c, run_id()) end
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
