-- Rows: hashes read once per call and written once at its end (frame.lua).
--
-- A body reads rows, validates, then changes rows and indexes; a refusal is raised before the first change of its
-- own (a lease whose deadline has come is ended before it, and stays ended). Redis
-- isolates but does not roll back, so nothing that can fail stands after a change.

local rows = {}
do

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

function rows.complete(row)
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

-- A call begins: nothing has changed yet.
function rows.begin() changes_of = {} end

function rows.put(row, field, value)
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

function rows.add(row, field, number) rows.put(row, field, s(int(row[field]) + number)) end

-- A row that is new as a whole: all its fields are written.
function rows.write_whole(row) changes_of[row] = FRESH end

-- A row whose key was deleted: nothing of it is left, and nothing is written.
function rows.erase(row)
  for field in pairs(row) do
    if field ~= KEY then row[field] = nil end
  end
  changes_of[row] = nil
end

-- A lease is read as a whole: the answer shows nearly all of it.
function rows.lease(c, id)
  local key = c.P .. ':lease:' .. id
  local row = c.rows[key]
  if row ~= nil then return row end
  row = LEASE.room()
  local flat = redis.call('HGETALL', key)
  for i = 1, #flat, 2 do row[flat[i]] = flat[i + 1] end
  return keep(c, key, row)
end

-- Of the others, what nearly every call needs is read at once, and a table made in one piece.
function rows.model(c, model)
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

function rows.residency(c, slot, model)
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

function rows.slot(c, slot)
  local key = slot_key(c, slot)
  local row = c.rows[key]
  if row ~= nil then return row end
  return keep(c, key, setmetatable({[KEY] = key, state = redis.call('HGET', key, 'state')}, LAZY))
end

-- Alone it is asked for on every hand-out; a row for it would cost more than the question.
function rows.slot_state(c, slot)
  local key = slot_key(c, slot)
  local row = c.rows[key]
  if row ~= nil then return row.state end
  return redis.call('HGET', key, 'state')
end

function rows.tenant_key(c, who) return c.P .. ':tenant:' .. who end

function rows.known_lease(c, id)
  local lease = rows.lease(c, id)
  if not lease.state then refuse('NOT_FOUND', 'no lease ' .. id) end
  return lease
end

function rows.rule(c, name)
  local known = c.rules[name]
  if known == nil then
    known = int(redis.call('HGET', c.P .. ':meta', name))
    c.rules[name] = known
  end
  return known
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

-- Write what changed.
function rows.flush(c)
  for at = 1, c.count do
    local row = c.order[at]
    local changes = changes_of[row]
    if changes ~= nil then
      redis.call('HSET', c.keys[at], unpack(changes == FRESH and fields_of(row) or changes))
      changes_of[row] = nil
    end
  end
end

end
