-- Pictures for readers, as JSON text: one lease, many leases, the policy's snapshot. Twin of broker/pool/views.py.
-- Every value is a string: cjson would round long numbers and writes an empty table as an object or an array.
local object, lease_json, live_leases, models_of, snapshot, ps
do

function object(fields, name, parts, name2, parts2)
  local text = cjson.encode(fields)
  if name == nil then return text end
  text = string.sub(text, 1, -2) .. ',"' .. name .. '":[' .. table.concat(parts, ',') .. ']'
  if name2 ~= nil then text = text .. ',"' .. name2 .. '":[' .. table.concat(parts2, ',') .. ']' end
  return text .. '}'
end

local function residency_of(c, lease)
  if lease.slot ~= nil and lease.state ~= 'ended' then return residency_row(c, lease.slot, lease.model) end
  local model = model_row(c, lease.model)
  local best = words(model.ready)[1] or words(model.loading)[1]
  if best then return residency_row(c, best, lease.model) end
  return {state = 'absent'}
end

local function most(one, other) return math.max(int(one), int(other)) end

-- The failure that a ticket, or one that ended, hears of: the newest, while its model is ready nowhere.
local function tell_trouble(c, lease)
  lease.load_error, lease.load_tries, lease.failed_ago, lease.retry_in = nil, nil, nil, nil
  if lease.state == 'active' or lease.state == 'ending' then return end
  local model = model_row(c, lease.model)
  if (model.ready or '') ~= '' or (model.failing or '') == '' then return end
  local record = newest_failure(c, model)
  if record == nil or is_old(c, record) then return end
  lease.load_error, lease.load_tries = record.error or nil, s(most(record.tries, record.falls))
  lease.failed_ago, lease.retry_in = s(c.now - int(record.failed_at)), s(math.max(int(record.retry_at) - c.now, 0))
end

function lease_json(c, lease)
  local where = residency_of(c, lease)
  lease.now, lease.url, lease.key, lease.position = c.now_text, nil, nil, nil -- shown, not kept
  if lease.intent == 'use' and (lease.state == 'active' or lease.state == 'ending') then
    lease.url, lease.key = where.url or '', where.key or ''
  end
  if lease.state == 'queued' then
    lease.position = s(redis.call('ZRANK', c.P .. ':turn:' .. lease.model, turn_member(lease)) + 1)
  end
  lease.residency, lease.progress = where.state, where.progress or '0'
  tell_trouble(c, lease)
  return cjson.encode(lease)
end

-- Of some API keys, wherever they stand in line, of each those it asked for first.
function by_key.leases(c, whose, model, limit)
  local parts = {}
  for _, who in ipairs(whose) do
    for _, id in ipairs(by_key.ids(c, who)) do
      if #parts >= limit then break end
      if model == '' or redis.call('HGET', c.P .. ':lease:' .. id, 'model') == model then
        parts[#parts + 1] = lease_json(c, known_lease(c, id))
      end
    end
  end
  return '[' .. table.concat(parts, ',') .. ']'
end

function live_leases(c, models, limit)
  local parts = {}
  local function add_ids(ids)
    for _, id in ipairs(ids) do parts[#parts + 1] = lease_json(c, known_lease(c, id)) end
  end
  local function add_all(key)
    if #parts < limit then add_ids(redis.call('ZRANGE', key, 0, limit - #parts - 1)) end
  end
  local slots = slots_of(c)
  for _, model in ipairs(models) do
    for _, slot in ipairs(slots) do add_all(held_key(c, slot, model)) end
  end
  for _, model in ipairs(models) do add_all(c.P .. ':warm:' .. model) end
  for _, model in ipairs(models) do
    if #parts < limit then add_ids(in_turn(c, model, 0, limit - #parts - 1)) end
  end
  return '[' .. table.concat(parts, ',') .. ']'
end

-- ---------------------------------------------------------------------------------------------------- snapshot
local function class_queues(c, model)
  local parts, key = {}, queue_key(c, model)
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
  local model = complete(model_row(c, name))
  local view = view_of(model, VIEW.MODEL)
  view.arrivals = s(decayed_arrivals(c, model))
  view.warm = s(redis.call('ZCARD', c.P .. ':warm:' .. name))
  return object(view, 'queues', class_queues(c, name))
end

local function waiting_below(c, name, residency)
  local count, waited = 0, int(residency.waited)
  if waited == 0 or int(model_row(c, name).queued) == 0 then return '0' end
  for rank = 0, #PRIORITIES - 1 do
    local low = rank * POOL.RANK_STEP
    count = count + redis.call('ZCOUNT', queue_key(c, name), s(low), s(low + waited - 1))
  end
  return s(count)
end

local function residency_json(c, slot, name)
  local residency = complete(residency_row(c, slot, name))
  local view = view_of(residency, VIEW.RESIDENCY)
  view.model = name
  view.memory_mib = s(footprint_mib(c, name, residency))
  view.waiting_below = waiting_below(c, name, residency)
  return cjson.encode(view)
end

local function slot_json(c, name)
  local slot, residencies, leases = complete(slot_row(c, name)), {}, {}
  local view = view_of(slot, VIEW.SLOT)
  view.slot = name
  for _, model in ipairs(words(slot.models)) do
    residencies[#residencies + 1] = residency_json(c, name, model)
    for _, id in ipairs(redis.call('ZRANGE', held_key(c, name, model), 0, -1)) do
      local held, told = {}, redis.call('HMGET', c.P .. ':lease:' .. id, unpack(VIEW.HELD))
      for i, field in ipairs(VIEW.HELD) do held[field] = told[i] or '0' end
      leases[#leases + 1] = cjson.encode(held)
    end
  end
  return object(view, 'residencies', residencies, 'leases', leases)
end

function models_of(c) return sorted(redis.call('SMEMBERS', c.P .. ':models')) end

function snapshot(c)
  local models, slots = {}, {}
  for _, name in ipairs(models_of(c)) do models[#models + 1] = model_json(c, name) end
  for _, name in ipairs(slots_of(c)) do slots[#slots + 1] = slot_json(c, name) end
  local view = {
    now = c.now_text, seq = s(c.seq), arrival = s(c.arrival), queued = s(c.queued), horizon_ms = s(rule(c, 'horizon_ms')),
  }
  return object(view, 'models', models, 'slots', slots)
end

-- -------------------------------------------------------------------------------------------------------- table
local function seconds(milliseconds) return s(math.floor(milliseconds / 1000)) .. 's' end

local function words_at_end(lease)
  local text = ''
  for _, told in ipairs(LEASE.LINE_WORDS) do
    local value = lease[told[1]] or ''
    if value ~= '' then text = text .. ' ' .. told[2] .. value end
  end
  return text
end

local function lease_line(c, head, id)
  local lease = lease_row(c, id)
  local left = seconds(math.max(int(lease.deadline) - c.now, 0))
  return head .. ' ' .. id .. ' ' .. (lease.state or 'missing') .. ' ' .. (lease.priority or '') .. ' left=' .. left
    .. words_at_end(lease)
end

local function residency_line(c, slot, name)
  local residency = residency_row(c, slot, name)
  local line = '  MODEL ' .. name .. ' ' .. residency.state .. ' gen=' .. s(int(residency.gen)) .. ' use='
    .. s(int(residency.use)) .. '/' .. s(int(model_row(c, name).lease_limit))
  if residency.state == 'loading' then line = line .. ' progress=' .. s(int(residency.progress)) .. '%' end
  if (residency.why or '') ~= '' then line = line .. ' why=' .. residency.why end
  local kind = failing_kind(residency)
  if kind ~= nil then line = line .. ' fails=' .. s(most(residency.tries, residency.falls)) .. ' ' .. kind end
  if is_given_up(c, residency) then line = line .. ' quarantined' end
  if kind ~= nil and (residency.error or '') ~= '' then line = line .. ' error=' .. residency.error end
  return line
end

local function slot_line(c, name)
  local slot = complete(slot_row(c, name))
  local worker = (slot.worker or '') ~= '' and slot.worker or '-'
  local line = 'SLOT  ' .. name .. ' ' .. slot.state .. ' gen=' .. s(int(slot.gen)) .. ' budget='
    .. s(int(slot.budget_mib)) .. 'MiB worker=' .. worker .. ' seen=' .. seconds(c.now - int(slot.seen)) .. ' ago'
  if (slot.reason or '') ~= '' then line = line .. ' reason=' .. slot.reason end
  return line
end

-- Models that were ready and are not any more: since when, and why.
local function gone_line(c, lines, name)
  local model = model_row(c, name)
  if (model.left_slot or '') == '' or (model.ready or '') ~= '' then return end
  local line = 'GONE  ' .. name .. ' ' .. model.left_slot .. ' ago=' .. seconds(c.now - int(model.left_at))
  if (model.left_why or '') ~= '' then line = line .. ' why=' .. model.left_why end
  if (model.left_for or '') ~= '' then line = line .. ' for=' .. model.left_for end
  lines[#lines + 1] = line
end

local function queue_lines(c, lines, name)
  local queued = int(model_row(c, name).queued)
  if queued == 0 then return end
  lines[#lines + 1] = 'QUEUE ' .. name .. ' waiting=' .. s(queued)
  for place, id in ipairs(in_turn(c, name, 0, POOL.SHOWN - 1)) do
    local lease = lease_row(c, id)
    lines[#lines + 1] = '  #' .. place .. ' ' .. id .. ' ' .. lease.priority .. ' waited='
      .. seconds(c.now - int(lease.enq)) .. words_at_end(lease)
  end
end

local function broker_lines(c, lines)
  local use = {}
  for _, id in ipairs(lives.held(c)) do
    local life = lease_row(c, id).life or ''
    use[life] = (use[life] or 0) + 1
  end
  for _, life in ipairs(lives.all(c)) do
    local gone = int(redis.call('ZSCORE', c.P .. ':brokers', life)) < 0 and ' gone' or ''
    lines[#lines + 1] = 'BROKER ' .. life .. ' use=' .. s(use[life] or 0) .. ' waiting='
      .. s(redis.call('ZCARD', c.P .. ':life:' .. life)) .. gone
  end
end

function ps(c)
  local lines = {'POOL  inc=' .. c.inc .. ' seq=' .. s(c.seq) .. ' queued=' .. s(c.queued)}
  broker_lines(c, lines)
  for _, name in ipairs(slots_of(c)) do
    lines[#lines + 1] = slot_line(c, name)
    for _, model in ipairs(words(slot_row(c, name).models)) do
      lines[#lines + 1] = residency_line(c, name, model)
      for _, id in ipairs(redis.call('ZRANGE', held_key(c, name, model), 0, -1)) do
        lines[#lines + 1] = lease_line(c, '    HELD', id)
      end
    end
  end
  for _, name in ipairs(models_of(c)) do
    local off = model_row(c, name).off or ''
    if off ~= '' then lines[#lines + 1] = 'OFF   ' .. name .. ' ' .. off end
  end
  for _, name in ipairs(models_of(c)) do gone_line(c, lines, name) end
  for _, name in ipairs(models_of(c)) do
    for _, id in ipairs(redis.call('ZRANGE', c.P .. ':warm:' .. name, 0, POOL.SHOWN - 1)) do
      lines[#lines + 1] = lease_line(c, 'WARM  ' .. name, id)
    end
  end
  for _, name in ipairs(models_of(c)) do queue_lines(c, lines, name) end
  return lines
end

end
