-- The pool as a whole: creating it, its tick, its ingress. Twin of broker/pool/machine.py.
local catalogue, init, create, set_model, tick, ingest, reject_ingress, mail
do

function catalogue(c, args, at)
  local name = args[at]
  local model = model_row(c, name)
  local fresh = not model.name
  if fresh then -- in front, where every call looks for them
    put(model, 'name', name)
    for _, field in ipairs({'lease_limit', 'ready', 'loading', 'off', 'failing'}) do put(model, field, '') end
    for _, field in ipairs({'queued', 'arrivals', 'arrived_at'}) do put(model, field, '0') end
  end
  for i, field in ipairs(POOL.SPEC_FIELDS) do put(model, field, args[at + i - 1]) end
  redis.call('SADD', c.P .. ':models', name)
end

local function in_use(c, name)
  if int(model_row(c, name).queued) > 0 or redis.call('ZCARD', c.P .. ':warm:' .. name) > 0 then return true end
  for _, slot in ipairs(slots_of(c)) do
    if POOL.OCCUPIES_HOST[residency_row(c, slot, name).state] then return true end
  end
  return false
end

local function drop_model(c, name)
  for _, slot in ipairs(slots_of(c)) do
    if has(words(slot_row(c, slot).models), name) then forget(c, slot, name) end
  end
  redis.call('SREM', c.P .. ':models', name)
  redis.call('DEL', c.P .. ':model:' .. name)
end

-- Args: number of settings, their names and values, then the words of each model.
function init(c, args)
  local count = whole(args[1])
  local models = 2 + 2 * count
  if (#args - models + 1) % #POOL.SPEC_FIELDS ~= 0 or #args < models - 1 then
    refuse('BAD_ARGUMENT', 'settings and models do not add up')
  end
  local settings = {c.P .. ':meta', 'schema', SCHEMA}
  for i = 2, models - 1 do settings[#settings + 1] = args[i] end
  redis.call('HSET', unpack(settings))
  local wanted = {}
  for at = models, #args, #POOL.SPEC_FIELDS do
    wanted[args[at]] = true
    catalogue(c, args, at)
  end
  for _, name in ipairs(redis.call('SMEMBERS', c.P .. ':models')) do
    if not wanted[name] and not in_use(c, name) then drop_model(c, name) end
  end
end

function create(keys)
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

-- An operator takes a model out of service, with the reason, or without one puts it back.
function set_model(c, name, off, who)
  local model = model_row(c, name)
  if not model.name then refuse('UNKNOWN_MODEL', 'no model ' .. name) end
  local was = (model.off or '') ~= '' and 'off' or 'on'
  put(model, 'off', off)
  emit(c, 'model', {'model', name, 'who', who, 'why', off, 'from', was, 'to', off ~= '' and 'off' or 'on'})
  reject_if_hopeless(c, name)
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

function tick(c)
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
mail = {last_id = '18446744073709551615'} -- one table: a chunk may have 200 locals
mail.REJECTED_WORDS = 128

function mail.done(c, id) redis.call('XDEL', c.P .. ':ingress', id) end

function mail.entry(c, id)
  return redis.call('XRANGE', c.P .. ':ingress', id, id)[1]
end

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
function ingest(c, args)
  local id, sh, sequence, who, effect = args[1], args[2], args[3], args[4], args[5]
  local key = c.P .. ':session:' .. sh
  local last = sequence ~= '' and redis.call('HGET', key, 'seq')
  if mail.entry(c, id) == nil or (last and whole(sequence) <= int(last)) then
    mail.done(c, id)
    return nil
  end
  local lease = nil
  if effect == 'acquire' then
    lease = acquire(c, ask_of(args, 6))
  elseif effect == 'renew' then
    lease = renew(c, args[6], args[7] ~= '' and args[7] or nil, whole(args[8]), args[9])
  elseif effect == 'release' then
    lease = release(c, args[6], nil, args[7])
  elseif effect ~= 'none' then
    refuse('BAD_ARGUMENT', 'unknown effect ' .. effect)
  end
  if sequence ~= '' then
    redis.call('HSET', key, 'seq', s(whole(sequence)))
    by_key.keep(c, who, 'seq:' .. sh)
    if redis.call('HLEN', key) == 1 then expire_key(c, key, rule(c, 'op_ttl_ms')) end
  end
  mail.done(c, id)
  return lease
end

function reject_ingress(c, id, why)
  local entry = mail.entry(c, id)
  if entry == nil then return end
  local args = {c.P .. ':ingress:rejected', 'MAXLEN', '~', POOL.REJECTED_KEPT, '*', 'id', id, 'why', why}
  if mail.bytes_of(entry[2]) <= POOL.MAX_ENTRY then
    for i = 1, math.min(#entry[2], mail.REJECTED_WORDS) do args[#args + 1] = entry[2][i] end
  end
  redis.call('XADD', unpack(args))
  mail.done(c, id)
  emit(c, 'ingress_rejected', {'who', 'ingress', 'why', why})
end

end
