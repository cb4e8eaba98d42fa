-- The pool as a table for people. Twin of broker/pool/ps.py.
local ps = {}
do

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
  local lease = rows.lease(c, id)
  local left = seconds(math.max(int(lease.deadline) - c.now, 0))
  return head .. ' ' .. id .. ' ' .. (lease.state or 'missing') .. ' ' .. (lease.priority or '') .. ' left=' .. left
    .. words_at_end(lease)
end

local function residency_line(c, slot, name)
  local residency = rows.residency(c, slot, name)
  local line = '  MODEL ' .. name .. ' ' .. residency.state .. ' gen=' .. s(int(residency.gen)) .. ' use='
    .. s(int(residency.use)) .. '/' .. s(int(rows.model(c, name).lease_limit))
  if residency.state == 'loading' then line = line .. ' progress=' .. s(int(residency.progress)) .. '%' end
  if (residency.why or '') ~= '' then line = line .. ' why=' .. residency.why end
  local kind = failures.kind_of(residency)
  if kind ~= nil then line = line .. ' fails=' .. s(failures.in_a_row(residency)) .. ' ' .. kind end
  if failures.is_given_up(c, residency) then line = line .. ' quarantined' end
  if kind ~= nil and (residency.error or '') ~= '' then line = line .. ' error=' .. residency.error end
  return line
end

local function slot_line(c, name)
  local slot = rows.complete(rows.slot(c, name))
  local worker = (slot.worker or '') ~= '' and slot.worker or '-'
  local line = 'SLOT  ' .. name .. ' ' .. slot.state .. ' gen=' .. s(int(slot.gen)) .. ' budget='
    .. s(int(slot.budget_mib)) .. 'MiB worker=' .. worker .. ' seen=' .. seconds(c.now - int(slot.seen)) .. ' ago'
  if (slot.reason or '') ~= '' then line = line .. ' reason=' .. slot.reason end
  return line
end

-- Models that were ready and are not any more: since when, and why.
local function gone_line(c, lines, name)
  local model = rows.model(c, name)
  if (model.left_slot or '') == '' or (model.ready or '') ~= '' then return end
  local line = 'GONE  ' .. name .. ' ' .. model.left_slot .. ' ago=' .. seconds(c.now - int(model.left_at))
  if (model.left_why or '') ~= '' then line = line .. ' why=' .. model.left_why end
  if (model.left_for or '') ~= '' then line = line .. ' for=' .. model.left_for end
  lines[#lines + 1] = line
end

local function queue_lines(c, lines, name)
  local queued = int(rows.model(c, name).queued)
  if queued == 0 then return end
  lines[#lines + 1] = 'QUEUE ' .. name .. ' waiting=' .. s(queued)
  for place, id in ipairs(shares.in_turn(c, name, 0, POOL.SHOWN - 1)) do
    local lease = rows.lease(c, id)
    lines[#lines + 1] = '  #' .. place .. ' ' .. id .. ' ' .. lease.priority .. ' waited='
      .. seconds(c.now - int(lease.enq)) .. words_at_end(lease)
  end
end

local function broker_lines(c, lines)
  local use = {}
  for _, id in ipairs(broker_lives.held(c)) do
    local life = rows.lease(c, id).life or ''
    use[life] = (use[life] or 0) + 1
  end
  for _, life in ipairs(broker_lives.all(c)) do
    local gone = int(redis.call('ZSCORE', c.P .. ':brokers', life)) < 0 and ' gone' or ''
    lines[#lines + 1] = 'BROKER ' .. life .. ' use=' .. s(use[life] or 0) .. ' waiting='
      .. s(redis.call('ZCARD', c.P .. ':life:' .. life)) .. gone
  end
end

function ps.table(c)
  local lines = {'POOL  inc=' .. c.inc .. ' seq=' .. s(c.seq) .. ' queued=' .. s(c.queued)}
  broker_lines(c, lines)
  for _, name in ipairs(registration.slots_of(c)) do
    lines[#lines + 1] = slot_line(c, name)
    for _, model in ipairs(words(rows.slot(c, name).models)) do
      lines[#lines + 1] = residency_line(c, name, model)
      for _, id in ipairs(redis.call('ZRANGE', handout.held_key(c, name, model), 0, -1)) do
        lines[#lines + 1] = lease_line(c, '    HELD', id)
      end
    end
  end
  for _, name in ipairs(views.models_of(c)) do
    local off = rows.model(c, name).off or ''
    if off ~= '' then lines[#lines + 1] = 'OFF   ' .. name .. ' ' .. off end
  end
  for _, name in ipairs(views.models_of(c)) do gone_line(c, lines, name) end
  for _, name in ipairs(views.models_of(c)) do
    for _, id in ipairs(redis.call('ZRANGE', c.P .. ':warm:' .. name, 0, POOL.SHOWN - 1)) do
      lines[#lines + 1] = lease_line(c, 'WARM  ' .. name, id)
    end
  end
  for _, name in ipairs(views.models_of(c)) do queue_lines(c, lines, name) end
  return lines
end

end
