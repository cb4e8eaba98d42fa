-- The invariants, read-only. Twin of broker/pool/check.py: same names, same subjects.
local check = {}
do

local function broken(found, invariant, subject, detail)
  found[#found + 1] = cjson.encode({invariant = invariant, subject = subject, detail = detail})
end

local function check_live(c, found, id, states, index)
  local lease = rows.lease(c, id)
  if lease.state == nil or not states[lease.state] then
    broken(found, 'ended_stays_ended', id, (lease.state or 'missing') .. ' in ' .. index)
    return nil
  end
  local due = redis.call('ZSCORE', c.P .. ':due', id)
  if not due or int(due) ~= int(lease.deadline) then
    broken(found, 'due_is_deadline', id, tostring(due) .. ' is not ' .. tostring(lease.deadline))
  end
  if redis.call('HGET', c.P .. ':session:' .. lease.sh, lifecycle.session_field(lease)) ~= id then
    broken(found, 'one_live_lease_per_session', id, "not the session's lease")
  end
  local place, is_left, life = lease.place or '', int(lease.left) > 0, lease.life or ''
  local waits = lease.state == 'queued' and not is_left
  if life ~= '' then
    local known = redis.call('ZSCORE', c.P .. ':life:' .. life, id) and true or false
    if known ~= waits or not redis.call('ZSCORE', c.P .. ':brokers', life) then
      broken(found, 'lives_are_in_step', id, 'not of ' .. life)
    end
  end
  if place ~= '' then
    local waited_for = redis.call('ZSCORE', c.P .. ':place:' .. place, id)
    local awaited = redis.call('ZSCORE', c.P .. ':left:' .. place, id)
    if waits ~= (waited_for and true or false) then
      broken(found, 'left_are_in_step', id, 'left ' .. s(int(lease.left)) .. ', waited for as ' .. place)
    end
    if is_left ~= (awaited and true or false) then
      broken(found, 'left_are_in_step', id, 'left ' .. s(int(lease.left)) .. ', as ' .. place)
    end
  end
  return lease
end

local HELD_STATES, QUEUED_STATES = {active = true, ending = true}, {queued = true}

local function check_queue(c, found, name)
  local key = handout.queue_key(c, name)
  for _, id in ipairs(redis.call('ZRANGE', key, 0, POOL.CHECKED - 1)) do
    check_live(c, found, id, QUEUED_STATES, 'queue:' .. name)
  end
  for _, id in ipairs(redis.call('ZRANGE', c.P .. ':warm:' .. name, 0, POOL.CHECKED - 1)) do
    check_live(c, found, id, HELD_STATES, 'warm:' .. name)
  end
  local length = redis.call('ZCARD', key)
  if length ~= int(rows.model(c, name).queued) or length ~= redis.call('ZCARD', c.P .. ':turn:' .. name) then
    broken(found, 'queued_is_the_sum', name, s(length) .. ' is not ' .. s(int(rows.model(c, name).queued)))
  end
  return length
end

local function check_residency(c, found, slot, name)
  local residency, model = rows.residency(c, slot, name), rows.model(c, name)
  local subject, use = slot .. ':' .. name, int(residency.use)
  local held = redis.call('ZRANGE', handout.held_key(c, slot, name), 0, -1)
  if use ~= #held or use > int(model.lease_limit) then
    broken(found, 'at_most_lease_limit_per_model', subject, 'use ' .. s(use) .. ', held ' .. s(#held))
  end
  if #held > 0 and residency.state ~= 'ready' then
    broken(found, 'granted_only_when_ready', subject, s(#held) .. ' leases while ' .. residency.state)
  end
  for _, list in ipairs({'ready', 'loading'}) do
    if has(words(model[list]), slot) ~= (residency.state == list) then
      broken(found, 'lists_are_in_step', subject, list .. ' list and ' .. residency.state)
    end
  end
  local kind = failures.kind_of(residency)
  if has(words(model.failing), slot) ~= (kind ~= nil) then
    broken(found, 'lists_are_in_step', subject, 'failing list and ' .. (kind or 'no failure'))
  end
  for _, id in ipairs(held) do
    local lease = check_live(c, found, id, HELD_STATES, 'held:' .. subject)
    if lease and (lease.slot ~= slot or lease.model ~= name or lease.intent ~= 'use') then
      broken(found, 'granted_only_when_ready', id, 'held on ' .. subject .. ', says ' .. lease.slot .. ':'
        .. lease.model)
    end
    if lease and int(lease.gen) ~= int(residency.gen) then
      broken(found, 'granted_only_when_ready', id, 'generation ' .. s(int(lease.gen)))
    end
  end
end

local function check_orders(c, found, name)
  local slot, told, flat = rows.slot(c, name), {}, redis.call('HGETALL', orders.key(c, name))
  for i = 1, #flat, 2 do told[flat[i]] = flat[i + 1] end
  if int(told.gen) ~= int(slot.gen) or told.inc ~= c.inc then
    broken(found, 'orders_are_in_step', name, 'generation ' .. s(int(told.gen)) .. ' is not ' .. s(int(slot.gen))
      .. ', or ' .. tostring(told.inc))
  end
  local wanted, agree = 0, true
  for _, model in ipairs(words(slot.models)) do
    local residency = rows.residency(c, name, model)
    if orders.occupied(residency) then
      wanted = wanted + 1
      agree = agree and told['want:' .. model] == residency.gen and told['key:' .. model] == residency.key
        and (told['depth:' .. model] or 'ready') == (residency.wanted or 'ready')
    end
    if int(residency.gen) > int(slot.gen) then
      broken(found, 'generations_only_grow', name .. ':' .. model, residency.gen .. ' above ' .. s(int(slot.gen)))
    end
  end
  for field in pairs(told) do
    if string.sub(field, 1, 5) == 'want:' then wanted = wanted - 1 end
  end
  if wanted ~= 0 or not agree then broken(found, 'orders_are_in_step', name, 'wants and resident models differ') end
end

local function check_memory(c, found, name)
  local slot = rows.slot(c, name)
  local declared, measured = 0, false
  for _, model in ipairs(words(slot.models)) do
    local residency = rows.residency(c, name, model)
    if orders.occupied(residency) then declared = declared + int(rows.model(c, model).memory_mib) end
    measured = measured or int(residency.mib) > 0
  end
  local room = math.max(int(slot.budget_mib) + int(slot.foreign_mib), int(slot.total_mib))
  if slot.state == 'open' and declared > room and room > 0 and not measured then
    broken(found, 'memory_fits', name, s(declared) .. ' MiB in ' .. s(room))
  end
end

local function check_life(c, found, life)
  for _, id in ipairs(redis.call('ZRANGE', c.P .. ':life:' .. life, 0, POOL.CHECKED - 1)) do
    local lease = rows.lease(c, id)
    if lease.state ~= 'queued' or lease.life ~= life then
      broken(found, 'lives_are_in_step', life, 'has ' .. id)
    end
  end
end

function check.check(c)
  local found, total = {}, 0
  for _, name in ipairs(views.models_of(c)) do total = total + check_queue(c, found, name) end
  for _, slot in ipairs(registration.slots_of(c)) do
    for _, name in ipairs(words(rows.slot(c, slot).models)) do check_residency(c, found, slot, name) end
    check_orders(c, found, slot)
    check_memory(c, found, slot)
  end
  for _, life in ipairs(broker_lives.all(c)) do check_life(c, found, life) end
  if c.queued ~= total then broken(found, 'queued_is_the_sum', 'meta', s(c.queued) .. ' is not ' .. s(total)) end
  return '[' .. table.concat(found, ',') .. ']'
end

end
