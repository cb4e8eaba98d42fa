-- Committing decisions: what a slot is ordered to hold, whom a residency admits. Twin of broker/pool/slots/orders.py.
local orders = {}
do

local RINGS_KEPT = 64

local function is_by_hand(why) return string.sub(why, 1, #POOL.BY_HAND) == POOL.BY_HAND end

function orders.occupied(residency) return POOL.OCCUPIES_DEVICE[residency.state] ~= nil end

function orders.footprint_mib(c, name, residency)
  local declared, measured = int(rows.model(c, name).memory_mib), int(residency.mib)
  if residency.state == 'loading' then return math.max(declared, measured) end
  return measured > 0 and measured or declared
end

function orders.key(c, slot) return c.P .. ':orders:' .. slot end

function orders.write(c, name)
  local slot = rows.slot(c, name)
  redis.call('HSET', orders.key(c, name), 'inc', c.inc, 'epoch', slot.epoch or '0', 'boot', slot.boot or '',
    'gen', slot.gen or '0')
  redis.call('XADD', c.P .. ':ring:' .. name, 'MAXLEN', '~', RINGS_KEPT, '*', 'gen', slot.gen or '0')
end

function orders.put(c, slot, model)
  local residency = rows.residency(c, slot, model)
  redis.call('HSET', orders.key(c, slot), 'want:' .. model, residency.gen, 'key:' .. model, residency.key,
    'depth:' .. model, residency.wanted or 'ready')
end

function orders.drop(c, slot, model)
  redis.call('HDEL', orders.key(c, slot), 'want:' .. model, 'key:' .. model, 'depth:' .. model, 'prove:' .. model)
end

local function refuse_old_picture(slot, gen)
  if int(slot.gen) ~= gen then refuse('STALE', 'slot has generation ' .. (slot.gen or '0')) end
end

local function refuse_withdrawal(c, slot, model)
  local residency = rows.residency(c, slot, model)
  if not orders.occupied(residency) or int(residency.use) > 0 then
    refuse('STALE', model .. ' on ' .. slot .. ' is ' .. residency.state .. ' with ' .. s(int(residency.use))
      .. ' leases')
  end
end

local function refuse_room(c, at, slot, evict)
  local used_mib = int(rows.model(c, at.model).memory_mib)
  for _, model in ipairs(words(slot.models)) do
    local residency = rows.residency(c, at.slot, model)
    if not has(evict, model) and orders.occupied(residency) then
      used_mib = used_mib + orders.footprint_mib(c, model, residency)
      if residency.state == 'loading' then refuse('STALE', model .. ' is loading on ' .. at.slot) end
    end
  end
  if used_mib > int(slot.budget_mib) then
    refuse('STALE', s(used_mib) .. ' MiB do not fit into ' .. s(int(slot.budget_mib)) .. ' MiB of ' .. at.slot)
  end
end

function orders.want(c, at, gen, key, depth, evict)
  local slot, model = rows.slot(c, at.slot), rows.model(c, at.model)
  if not slot.state or not model.name or has(evict, at.model) or key == '' then
    refuse('BAD_ARGUMENT', 'unknown slot or model')
  end
  if not POOL.ORDERABLE[depth] then refuse('BAD_ARGUMENT', depth .. ' is no depth that can be ordered') end
  refuse_old_picture(slot, gen)
  if slot.state ~= 'open' or not has(words(slot.serves), at.model) then
    refuse('STALE', 'slot ' .. at.slot .. ' is ' .. slot.state .. ' or does not serve ' .. at.model)
  end
  local target = rows.residency(c, at.slot, at.model)
  local waits = failures.is_given_up(c, target) or int(target.retry_at) > c.now or (model.off or '') ~= ''
  if target.state ~= 'absent' or (waits and not is_by_hand(at.why)) then
    refuse('STALE', at.model .. ' is ' .. target.state .. ', off or backing off on ' .. at.slot)
  end
  if POOL.FOR_WAITERS[at.why] and int(model.queued) == 0 then
    refuse('STALE', 'nobody waits for ' .. at.model .. ' any more')
  end
  for _, name in ipairs(evict) do refuse_withdrawal(c, at.slot, name) end
  refuse_room(c, at, slot, evict)
  rows.add(slot, 'gen', 1)
  for _, name in ipairs(evict) do
    residencies.withdraw(c, {slot = at.slot, model = name, who = at.who, why = at.why, room_for = at.model})
    orders.drop(c, at.slot, name)
  end
  residencies.order(c, at, slot.gen, key, depth)
  orders.put(c, at.slot, at.model)
  orders.write(c, at.slot)
end

function orders.withdraw(c, at)
  rows.add(rows.slot(c, at.slot), 'gen', 1)
  orders.drop(c, at.slot, at.model)
  orders.write(c, at.slot)
end

function orders.unwant(c, at, gen)
  local slot = rows.slot(c, at.slot)
  if not slot.state then refuse('BAD_ARGUMENT', 'unknown slot') end
  refuse_old_picture(slot, gen)
  refuse_withdrawal(c, at.slot, at.model)
  if at.why == POOL.DESERTED then
    local model = rows.model(c, at.model)
    if int(model.queued) > 0 then refuse('STALE', model.queued .. ' wait for ' .. at.model) end
    rows.put(model, 'given_up', c.now_text)
  end
  if is_by_hand(at.why) then rows.put(rows.model(c, at.model), 'resting', '1') end
  residencies.withdraw(c, at)
  orders.withdraw(c, at)
end

function orders.doubt(c, at, gen)
  local residency = rows.residency(c, at.slot, at.model)
  if residency.state ~= 'ready' or int(residency.gen) ~= gen then
    refuse('STALE', at.model .. ' on ' .. at.slot .. ' is ' .. residency.state .. ', generation '
      .. s(int(residency.gen)))
  end
  rows.add(residency, 'doubts', 1)
  redis.call('HSET', orders.key(c, at.slot), 'prove:' .. at.model, residency.doubts)
  events.emit(c, 'doubted', {
    'model', at.model, 'slot', at.slot, 'gen', events.gen_of(residency), 'who', at.who, 'why', at.why,
  })
  orders.write(c, at.slot)
end

function orders.admit(c, at, gen, number)
  if int(number) < 0 then refuse('BAD_ARGUMENT', 'admit must not be negative') end
  local residency = rows.residency(c, at.slot, at.model)
  if residency.state ~= 'ready' or int(residency.gen) ~= gen then
    refuse('STALE', at.model .. ' on ' .. at.slot .. ' is ' .. residency.state .. ', generation '
      .. s(int(residency.gen)))
  end
  rows.put(residency, 'admit', number)
  events.emit(c, 'admitted', {
    'model', at.model, 'slot', at.slot, 'gen', events.gen_of(residency), 'who', at.who, 'why', at.why, 'state', number,
  })
  handout.hand_out(c, at.model)
end

end
