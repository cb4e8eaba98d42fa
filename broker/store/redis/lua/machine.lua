-- The pool as a whole: creating it, its tick, its ingress. Twin of broker/pool/machine.py.
local machine = {}
do

function machine.catalogue(c, args, at)
  local name = args[at]
  local model = rows.model(c, name)
  local fresh = not model.name
  if fresh then -- in front, where every call looks for them
    rows.put(model, 'name', name)
    for _, field in ipairs({'lease_limit', 'ready', 'loading', 'off', 'failing'}) do rows.put(model, field, '') end
    for _, field in ipairs({'queued', 'arrivals', 'arrived_at'}) do rows.put(model, field, '0') end
  end
  for i, field in ipairs(POOL.SPEC_FIELDS) do rows.put(model, field, args[at + i - 1]) end
  redis.call('SADD', c.P .. ':models', name)
end

local function in_use(c, name)
  if int(rows.model(c, name).queued) > 0 or redis.call('ZCARD', c.P .. ':warm:' .. name) > 0 then return true end
  for _, slot in ipairs(registration.slots_of(c)) do
    if POOL.OCCUPIES_HOST[rows.residency(c, slot, name).state] then return true end
  end
  return false
end

local function drop_model(c, name)
  for _, slot in ipairs(registration.slots_of(c)) do
    if has(words(rows.slot(c, slot).models), name) then residencies.forget(c, slot, name) end
  end
  redis.call('SREM', c.P .. ':models', name)
  redis.call('DEL', c.P .. ':model:' .. name)
end

-- Args: number of settings, their names and values, then the words of each model.
function machine.init(c, args)
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
    machine.catalogue(c, args, at)
  end
  for _, name in ipairs(redis.call('SMEMBERS', c.P .. ':models')) do
    if not wanted[name] and not in_use(c, name) then drop_model(c, name) end
  end
end

function machine.create(keys)
  local _, c = frame.open(keys)
  if c == nil then return nil end
  c.now, c.seq, c.arrival, c.queued, c.arrival_was, c.queued_was = c.wall, 0, 0, 0, 0, 0
  c.now_text = s(c.wall)
  c.run, c.inc = frame.run_id(), registration.incarnation(frame.run_id(), c.wall)
  -- In the order in which every call looks for them: small hashes are searched from the front.
  redis.call('HSET', c.P .. ':meta', 'clock_wall', s(c.wall), 'clock_log', c.now_text, 'seq', '0', 'arrival', '0',
    'queued', '0', 'run', c.run, 'inc', c.inc, 'max_step_ms', '0', 'ended_ttl_ms', '0', 'op_ttl_ms', '0',
    'inc_no', '1', 'watched', c.now_text)
  events.emit(c, 'initialised', {'who', 'scheduler', 'why', c.inc})
  return c
end

-- An operator takes a model out of service, with the reason, or without one puts it back.
function machine.set_model(c, name, off, who)
  local model = rows.model(c, name)
  if not model.name then refuse('UNKNOWN_MODEL', 'no model ' .. name) end
  local was = (model.off or '') ~= '' and 'off' or 'on'
  rows.put(model, 'off', off)
  events.emit(c, 'model', {'model', name, 'who', who, 'why', off, 'from', was, 'to', off ~= '' and 'off' or 'on'})
  availability.reject_if_unavailable(c, name)
end

local function next_deadline(c)
  local first = redis.call('ZRANGE', c.P .. ':due', 0, 0, 'WITHSCORES')
  local at = first[2] and int(first[2]) or nil
  for _, name in ipairs(registration.slots_of(c)) do
    local slot = rows.slot(c, name)
    local silent = int(slot.seen) + rows.rule(c, 'silence_ms')
    if slot.state ~= 'offline' and (at == nil or silent < at) then at = silent end
  end
  return at and s(math.max(at - c.now, 0)) or ''
end

function machine.tick(c)
  lifecycle.expire_due(c)
  broker_lives.watch(c)
  registration.silence(c)
  for _, name in ipairs(sorted(redis.call('SMEMBERS', c.P .. ':models'))) do
    if int(redis.call('HGET', c.P .. ':model:' .. name, 'queued')) > 0 or c.rows[c.P .. ':model:' .. name] then
      availability.reject_if_unavailable(c, name)
      handout.hand_out(c, name)
    end
  end
  return next_deadline(c)
end

-- Args: entry id, session hash, sequence or '', effect, its arguments.
function machine.ingest(c, args)
  local id, sh, sequence, who, effect = args[1], args[2], args[3], args[4], args[5]
  local key = c.P .. ':session:' .. sh
  local last = sequence ~= '' and redis.call('HGET', key, 'seq')
  if mail.entry(c, id) == nil or (last and whole(sequence) <= int(last)) then
    mail.done(c, id)
    return nil
  end
  local lease = nil
  if effect == 'acquire' then
    lease = acquire.acquire(c, acquire.ask_of(args, 6))
  elseif effect == 'renew' then
    lease = lifecycle.renew(c, args[6], args[7] ~= '' and args[7] or nil, whole(args[8]), args[9])
  elseif effect == 'release' then
    lease = lifecycle.release(c, args[6], nil, args[7])
  elseif effect ~= 'none' then
    refuse('BAD_ARGUMENT', 'unknown effect ' .. effect)
  end
  if sequence ~= '' then
    redis.call('HSET', key, 'seq', s(whole(sequence)))
    key_limits.keep(c, who, 'seq:' .. sh)
    if redis.call('HLEN', key) == 1 then frame.expire_key(c, key, rows.rule(c, 'op_ttl_ms')) end
  end
  mail.done(c, id)
  return lease
end

function machine.reject_ingress(c, id, why)
  local entry = mail.entry(c, id)
  if entry == nil then return end
  local args = {c.P .. ':ingress:rejected', 'MAXLEN', '~', POOL.REJECTED_KEPT, '*', 'id', id, 'why', why}
  if mail.bytes_of(entry[2]) <= POOL.MAX_ENTRY then
    for i = 1, math.min(#entry[2], mail.REJECTED_WORDS) do args[#args + 1] = entry[2][i] end
  end
  redis.call('XADD', unpack(args))
  mail.done(c, id)
  events.emit(c, 'ingress_rejected', {'who', 'ingress', 'why', why})
end

end
