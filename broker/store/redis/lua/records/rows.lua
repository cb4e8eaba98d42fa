-- Rows: hashes read once per call and written once at its end (frame.lua).
--
-- A body reads rows, validates, then changes rows and indexes; a refusal is raised before the first change of its
-- own (a lease whose deadline has come is ended before it, and stays ended). Redis
-- isolates but does not roll back, so nothing that can fail stands after a change.

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
local changes_of = {} -- of the running call: row to what HSET gets, and where in that a field's value stands
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
  for field, value in pairs(row) do
    if value == false then row[field] = nil end
  end
  return row
end

-- A row of this call, by its key.
local function keep(c, key, row)
  local at = c.count + 1
  c.count, c.rows[key], c.order[at], c.keys[at] = at, row, row, key
  return row
end

local function put(row, field, value)
  row[field] = value
  local changes = changes_of[row]
  if changes == nil then
    changes_of[row] = {field, value, [field] = 2}
  elseif changes ~= FRESH then
    local at = changes[field]
    if at == nil then
      at = #changes + 2
      changes[at - 1], changes[field] = field, at
    end
    changes[at] = value
  end
end

local function add(row, field, number) put(row, field, s(int(row[field]) + number)) end

-- A lease is read as a whole: the answer shows nearly all of it.
local function lease_row(c, id)
  local key = c.P .. ':lease:' .. id
  local row = c.rows[key]
  if row ~= nil then return row end
  row = LEASE.room()
  local flat = redis.call('HGETALL', key)
  for i = 1, #flat, 2 do row[flat[i]] = flat[i + 1] end
  return keep(c, key, row)
end

-- Of the others, what nearly every call needs is read at once, and a table made in one piece.
local function model_row(c, model)
  local key = c.P .. ':model:' .. model
  local row = c.rows[key]
  if row ~= nil then return row end
  local v = redis.call('HMGET', key, 'name', 'lease_limit', 'ready', 'queued', 'arrivals', 'arrived_at', 'off',
    'failing', 'hold_ms', 'hold_var', 'hold_n')
  return keep(c, key, setmetatable({
    [KEY] = key, name = v[1], lease_limit = v[2], ready = v[3], queued = v[4], arrivals = v[5], arrived_at = v[6],
    off = v[7], failing = v[8], hold_ms = v[9], hold_var = v[10], hold_n = v[11], used_at = nil,
  }, LAZY))
end

local function residency_row(c, slot, model)
  local key = c.P .. ':residency:' .. slot .. ':' .. model
  local row = c.rows[key]
  if row ~= nil then return row end
  local v = redis.call('HMGET', key, 'state', 'gen', 'admit', 'use', 'url', 'key', 'progress', 'prefetched')
  return keep(c, key, setmetatable({
    [KEY] = key, state = v[1] or 'absent', gen = v[2], admit = v[3], use = v[4], url = v[5], key = v[6],
    progress = v[7], prefetched = v[8], used_at = nil,
  }, LAZY))
end

local function slot_key(c, slot) return c.P .. ':slot:' .. slot end

local function slot_row(c, slot)
  local key = slot_key(c, slot)
  local row = c.rows[key]
  if row ~= nil then return row end
  return keep(c, key, setmetatable({[KEY] = key, state = redis.call('HGET', key, 'state')}, LAZY))
end

-- Alone it is asked for on every hand-out; a row for it would cost more than the question.
local function slot_state(c, slot)
  local key = slot_key(c, slot)
  local row = c.rows[key]
  if row ~= nil then return row.state end
  return redis.call('HGET', key, 'state')
end

local function tenant_key(c, who) return c.P .. ':tenant:' .. who end

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
