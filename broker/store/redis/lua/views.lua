-- Pictures for readers, as JSON text: one lease, many leases, the policy's snapshot. Twin of broker/pool/views.py.
-- Every value is a string: cjson would round long numbers and writes an empty table as an object or an array.
local views = {}
do

function views.object(fields, name, parts, name2, parts2)
  local text = cjson.encode(fields)
  if name == nil then return text end
  text = string.sub(text, 1, -2) .. ',"' .. name .. '":[' .. table.concat(parts, ',') .. ']'
  if name2 ~= nil then text = text .. ',"' .. name2 .. '":[' .. table.concat(parts2, ',') .. ']' end
  return text .. '}'
end

local function residency_of(c, lease)
  if lease.slot ~= nil and lease.state ~= 'ended' then return rows.residency(c, lease.slot, lease.model) end
  local model = rows.model(c, lease.model)
  local best = words(model.ready)[1] or words(model.loading)[1]
  if best then return rows.residency(c, best, lease.model) end
  return {state = 'absent'}
end

-- The failure that a ticket, or one that ended, hears of: the newest, while its model is ready nowhere.
local function tell_trouble(c, lease)
  lease.load_error, lease.load_tries, lease.failed_ago, lease.retry_in = nil, nil, nil, nil
  if lease.state == 'active' or lease.state == 'ending' then return end
  local model = rows.model(c, lease.model)
  if (model.ready or '') ~= '' or (model.failing or '') == '' then return end
  local record = availability.newest_failure(c, model)
  if record == nil or failures.is_old(c, record) then return end
  lease.load_error, lease.load_tries = record.error or nil, s(failures.in_a_row(record))
  lease.failed_ago, lease.retry_in = s(c.now - int(record.failed_at)), s(math.max(int(record.retry_at) - c.now, 0))
end

function views.lease_json(c, lease)
  local where = residency_of(c, lease)
  lease.now, lease.url, lease.key, lease.position = c.now_text, nil, nil, nil -- shown, not kept
  if lease.intent == 'use' and (lease.state == 'active' or lease.state == 'ending') then
    lease.url, lease.key = where.url or '', where.key or ''
  end
  if lease.state == 'queued' then
    lease.position = s(redis.call('ZRANK', c.P .. ':turn:' .. lease.model, shares.turn_member(lease)) + 1)
  end
  lease.residency, lease.progress = where.state, where.progress or '0'
  tell_trouble(c, lease)
  return cjson.encode(lease)
end

-- Of some API keys, wherever they stand in line, of each those it asked for first.
function views.leases_of(c, whose, model, limit)
  local parts = {}
  for _, who in ipairs(whose) do
    for _, id in ipairs(key_limits.ids(c, who)) do
      if #parts >= limit then break end
      if model == '' or redis.call('HGET', c.P .. ':lease:' .. id, 'model') == model then
        parts[#parts + 1] = views.lease_json(c, rows.known_lease(c, id))
      end
    end
  end
  return '[' .. table.concat(parts, ',') .. ']'
end

function views.live_leases(c, models, limit)
  local parts = {}
  local function add_ids(ids)
    for _, id in ipairs(ids) do parts[#parts + 1] = views.lease_json(c, rows.known_lease(c, id)) end
  end
  local function add_all(key)
    if #parts < limit then add_ids(redis.call('ZRANGE', key, 0, limit - #parts - 1)) end
  end
  local slots = registration.slots_of(c)
  for _, model in ipairs(models) do
    for _, slot in ipairs(slots) do add_all(handout.held_key(c, slot, model)) end
  end
  for _, model in ipairs(models) do add_all(c.P .. ':warm:' .. model) end
  for _, model in ipairs(models) do
    if #parts < limit then add_ids(shares.in_turn(c, model, 0, limit - #parts - 1)) end
  end
  return '[' .. table.concat(parts, ',') .. ']'
end

-- ---------------------------------------------------------------------------------------------------- snapshot
local function class_queues(c, model)
  local parts, key = {}, handout.queue_key(c, model)
  if redis.call('EXISTS', key) == 0 then return parts end
  for rank, priority in ipairs(PRIORITIES) do
    local low, high = s((rank - 1) * POOL.RANK_STEP), s(rank * POOL.RANK_STEP - 1)
    local first = redis.call('ZRANGEBYSCORE', key, low, high, 'LIMIT', 0, 1)[1]
    if first then
      local told = redis.call('HMGET', c.P .. ':lease:' .. first, 'enq', 'arrival')
      parts[#parts + 1] = cjson.encode({
        priority = priority, count = s(redis.call('ZCOUNT', key, low, high)), enq = told[1], arrival = told[2],
      })
    end
  end
  return parts
end

-- What is empty is left out: the field has its default then.
local function view_of(row, names)
  local view = {}
  for _, field in ipairs(names) do
    local value = row[field]
    if value ~= '' then view[field] = value end
  end
  return view
end

local function model_json(c, name)
  local model = rows.complete(rows.model(c, name))
  local view = view_of(model, VIEW.MODEL)
  view.arrivals = s(statistics.decayed_arrivals(c, model))
  view.warm = s(redis.call('ZCARD', c.P .. ':warm:' .. name))
  return views.object(view, 'queues', class_queues(c, name))
end

local function waiting_below(c, name, residency)
  local count, waited = 0, int(residency.waited)
  if waited == 0 or int(rows.model(c, name).queued) == 0 then return '0' end
  for rank = 0, #PRIORITIES - 1 do
    local low = rank * POOL.RANK_STEP
    count = count + redis.call('ZCOUNT', handout.queue_key(c, name), s(low), s(low + waited - 1))
  end
  return s(count)
end

local function residency_json(c, slot, name)
  local residency = rows.complete(rows.residency(c, slot, name))
  local view = view_of(residency, VIEW.RESIDENCY)
  view.model = name
  view.memory_mib = s(orders.footprint_mib(c, name, residency))
  view.waiting_below = waiting_below(c, name, residency)
  return cjson.encode(view)
end

local function slot_json(c, name)
  local slot, residencies, leases = rows.complete(rows.slot(c, name)), {}, {}
  local view = view_of(slot, VIEW.SLOT)
  view.slot = name
  for _, model in ipairs(words(slot.models)) do
    residencies[#residencies + 1] = residency_json(c, name, model)
    for _, id in ipairs(redis.call('ZRANGE', handout.held_key(c, name, model), 0, -1)) do
      local held, told = {}, redis.call('HMGET', c.P .. ':lease:' .. id, unpack(VIEW.HELD))
      for i, field in ipairs(VIEW.HELD) do held[field] = told[i] or '0' end
      leases[#leases + 1] = cjson.encode(held)
    end
  end
  return views.object(view, 'residencies', residencies, 'leases', leases)
end

function views.models_of(c) return sorted(redis.call('SMEMBERS', c.P .. ':models')) end

function views.snapshot(c)
  local models, slots = {}, {}
  for _, name in ipairs(views.models_of(c)) do models[#models + 1] = model_json(c, name) end
  for _, name in ipairs(registration.slots_of(c)) do slots[#slots + 1] = slot_json(c, name) end
  local view = {
    now = c.now_text, seq = s(c.seq), arrival = s(c.arrival), queued = s(c.queued),
    horizon_ms = s(rows.rule(c, 'horizon_ms')),
  }
  return views.object(view, 'models', models, 'slots', slots)
end

-- ---------------------------------------------------------------------------------------------------------- why
-- Facts about one lease: the lease, who is ahead of it, the picture of the pool, the bound of its class.
function views.why(c, id)
  local lease, ahead = rows.known_lease(c, id), {}
  if lease.state == 'queued' then
    local place = redis.call('ZRANK', c.P .. ':turn:' .. lease.model, shares.turn_member(lease))
    for _, other in ipairs(shares.in_turn(c, lease.model, 0, math.min(place, POOL.SHOWN) - 1)) do
      if place > 0 then ahead[#ahead + 1] = views.lease_json(c, rows.known_lease(c, other)) end
    end
  end
  local view = {max_wait_ms = s(rows.rule(c, 'max_wait_ms:' .. lease.priority))}
  return views.object(view, 'lease', {views.lease_json(c, lease)}, 'ahead', ahead)
end

end
