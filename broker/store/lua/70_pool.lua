-- The pool as a whole: creating it, its tick, its ingress. Twin of broker/core/pool.py.

local function catalogue(c, args, at)
  local name = args[at]
  local model = model_row(c, name)
  local fresh = not model.name
  put(model, 'name', name)
  put(model, 'lease_limit', args[at + 2])
  if fresh then -- in front, where every call looks for them
    for _, field in ipairs({'ready', 'loading'}) do put(model, field, '') end
    for _, field in ipairs({'queued', 'arrivals', 'arrived_at'}) do put(model, field, '0') end
  end
  put(model, 'memory_mib', args[at + 1])
  put(model, 'is_default', args[at + 3])
  put(model, 'release_ms', args[at + 4])
  put(model, 'load_hint_ms', args[at + 5])
  redis.call('SADD', c.P .. ':models', name)
end

local function in_use(c, name)
  if int(model_row(c, name).queued) > 0 or redis.call('ZCARD', c.P .. ':warm:' .. name) > 0 then return true end
  for _, slot in ipairs(slots_of(c)) do
    if has(words(slot_row(c, slot).models), name) then return true end
  end
  return false
end

-- Args: number of settings, their names and values, then six values per model.
local function init(c, args)
  local count = whole(args[1])
  local models = 2 + 2 * count
  if (#args - models + 1) % 6 ~= 0 or #args < models then refuse('BAD_ARGUMENT', 'settings and models do not add up') end
  local settings = {c.P .. ':meta', 'schema', SCHEMA}
  for i = 2, models - 1 do settings[#settings + 1] = args[i] end
  redis.call('HSET', unpack(settings))
  local wanted = {}
  for at = models, #args, 6 do
    wanted[args[at]] = true
    catalogue(c, args, at)
  end
  for _, name in ipairs(redis.call('SMEMBERS', c.P .. ':models')) do
    if not wanted[name] and not in_use(c, name) then
      redis.call('SREM', c.P .. ':models', name)
      redis.call('DEL', c.P .. ':model:' .. name)
    end
  end
end

local function create(keys)
  local _, c = open(keys)
  if c == nil then return nil end
  c.now, c.seq, c.arrival, c.queued, c.arrival_was, c.queued_was = c.wall, 0, 0, 0, 0, 0
  c.now_text = s(c.wall)
  c.run, c.inc = run_id(), incarnation(run_id(), c.wall)
  -- In the order in which every call looks for them: small hashes are searched from the front.
  redis.call('HSET', c.P .. ':meta', 'clock_wall', s(c.wall), 'clock_log', c.now_text, 'seq', '0', 'arrival', '0',
    'queued', '0', 'run', c.run, 'inc', c.inc, 'max_step_ms', '0', 'ended_ttl_ms', '0', 'op_ttl_ms', '0',
    'inc_no', '1', 'watched', c.now_text)
  emit(c, 'initialised', {'who', 'scheduler', 'why', c.inc})
  return c
end

local function next_deadline(c)
  local first = redis.call('ZRANGE', c.P .. ':due', 0, 0, 'WITHSCORES')
  local at = first[2] and int(first[2]) or nil
  for _, name in ipairs(slots_of(c)) do
    local slot = slot_row(c, name)
    local silent = int(slot.seen) + rule(c, 'silence_ms')
    if slot.state ~= 'offline' and (at == nil or silent < at) then at = silent end
  end
  return at and s(math.max(at - c.now, 0)) or ''
end

local function tick(c)
  expire_due(c)
  lives.watch(c)
  silence(c)
  for _, name in ipairs(sorted(redis.call('SMEMBERS', c.P .. ':models'))) do
    if int(redis.call('HGET', c.P .. ':model:' .. name, 'queued')) > 0 or c.rows[c.P .. ':model:' .. name] then
      reject_if_hopeless(c, name)
      hand_out(c, name)
    end
  end
  return next_deadline(c)
end

-- ----------------------------------------------------------------------------------------------------- ingress
local REJECTED_KEPT, REJECTED_WORDS, REJECTED_BYTES = '1000', 128, 262144

local function ingress_done(c, id) redis.call('XDEL', c.P .. ':ingress', id) end

local function ingress_entry(c, id)
  return redis.call('XRANGE', c.P .. ':ingress', id, id)[1]
end

local mail = {last_id = '18446744073709551615'} -- one table: a chunk may have 200 locals

function mail.bytes_of(words)
  local size = 0
  for _, word in ipairs(words) do size = size + #word end
  return size
end

-- Entries that wait, the oldest first: as many as fit. Instead of the fields of one that is too large its size is told.
function mail.entries(c, most, most_bytes, most_bytes_of_one)
  local found, from, bytes = {}, '-', 0
  while #found < most and bytes < most_bytes do
    local entry = redis.call('XRANGE', c.P .. ':ingress', from, '+', 'COUNT', 1)[1]
    if entry == nil then break end
    local size = mail.bytes_of(entry[2])
    found[#found + 1] = size > most_bytes_of_one and {entry[1], size} or entry
    bytes, from = bytes + size, '(' .. entry[1]
    if entry[1] == mail.last_id .. '-' .. mail.last_id then break end -- nothing can be after it
  end
  return found
end

-- Slots that rang lately. A page at a time: an entry may be of any size.
function mail.rang(c)
  local seen, names, from = {}, {}, '+'
  for _ = 1, 100 do
    local page = redis.call('XREVRANGE', c.P .. ':bell', from, '-', 'COUNT', 10)
    for _, entry in ipairs(page) do
      for i = 1, #entry[2], 2 do
        local name = entry[2][i + 1]
        if entry[2][i] == 'slot' and #name <= 128 and not seen[name] then
          seen[name], names[#names + 1] = true, name
        end
      end
    end
    if #page == 0 then break end
    from = '(' .. page[#page][1]
  end
  return names
end

-- Whoever may add to a stream may also give it the last id there is; after that nobody can. It begins anew then, the
-- ingress as soon as all of it is carried out. Args: name.
function mail.renew(c, name)
  if name ~= 'ingress' and name ~= 'bell' then refuse('BAD_ARGUMENT', 'unknown stream ' .. name) end
  local key = c.P .. ':' .. name
  if redis.call('EXISTS', key) == 0 then return 0 end
  local facts, last = redis.call('XINFO', 'STREAM', key), ''
  for i = 1, #facts, 2 do
    if facts[i] == 'last-generated-id' then last = facts[i + 1] end
  end
  if string.sub(last, 1, #mail.last_id) ~= mail.last_id then return 0 end
  if name == 'ingress' and redis.call('XLEN', key) > 0 then return 0 end
  redis.call('DEL', key)
  emit(c, 'stream_renewed', {'who', 'scheduler', 'why', name .. ' had no ids left'})
  return 1
end

-- Args: entry id, session hash, sequence or '', effect, its arguments.
local function ingest(c, args)
  local id, sh, sequence, effect = args[1], args[2], args[3], args[4]
  local key = c.P .. ':session:' .. sh
  local last = sequence ~= '' and redis.call('HGET', key, 'seq')
  if ingress_entry(c, id) == nil or (last and whole(sequence) <= int(last)) then
    ingress_done(c, id)
    return nil
  end
  local lease = nil
  if effect == 'acquire' then
    lease = acquire(c, ask_of(args, 5))
  elseif effect == 'renew' then
    lease = renew(c, args[5], args[6] ~= '' and args[6] or nil, whole(args[7]), args[8])
  elseif effect == 'release' then
    lease = release(c, args[5], nil, args[6])
  elseif effect ~= 'none' then
    refuse('BAD_ARGUMENT', 'unknown effect ' .. effect)
  end
  if sequence ~= '' then
    redis.call('HSET', key, 'seq', s(whole(sequence)))
    if redis.call('HLEN', key) == 1 then expire_key(c, key, rule(c, 'op_ttl_ms')) end
  end
  ingress_done(c, id)
  return lease
end

local function reject_ingress(c, id, why)
  local entry = ingress_entry(c, id)
  if entry == nil then return end
  local args = {c.P .. ':ingress:rejected', 'MAXLEN', '~', REJECTED_KEPT, '*', 'id', id, 'why', why}
  if mail.bytes_of(entry[2]) <= REJECTED_BYTES then
    for i = 1, math.min(#entry[2], REJECTED_WORDS) do args[#args + 1] = entry[2][i] end
  end
  redis.call('XADD', unpack(args))
  ingress_done(c, id)
  emit(c, 'ingress_rejected', {'who', 'ingress', 'why', why})
end
