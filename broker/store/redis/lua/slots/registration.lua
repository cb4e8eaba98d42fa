-- Slots: what the worker reports, registration, silence, recovery, the operator's wishes. Twin of registration, beliefs
-- and states in broker/pool/slots/.
local registration = {}
do

local function move_slot(c, name, event, who, why, kind)
  local slot = rows.slot(c, name)
  local was = slot.state
  local to = SLOT_TRANSITIONS[was][event]
  if to == nil then return false end
  rows.put(slot, 'state', to)
  events.emit(c, kind or 'slot', {
    'slot', name, 'gen', events.gen_of(slot), 'who', who, 'why', why, 'from', was, 'to', to,
  })
  return true
end

function registration.incarnation(run, wall_ms) return string.sub(run, 1, POOL.RUN_PREFIX) .. '-' .. s(wall_ms) end

function registration.slots_of(c) return sorted(redis.call('SMEMBERS', c.P .. ':slots')) end

-- Another server than the one that wrote last: nothing is granted until each worker has registered.
function registration.recover(c, run)
  c.run, c.inc = run, registration.incarnation(run, c.wall)
  local number = rows.rule(c, 'inc_no') + 1
  redis.call('HSET', c.P .. ':meta', 'run', c.run, 'inc', c.inc, 'inc_no', s(number))
  events.emit(c, 'recovered', {'who', 'scheduler', 'why', c.inc, 'state', s(number)})
  for _, name in ipairs(registration.slots_of(c)) do
    local slot = rows.slot(c, name)
    if slot.state ~= 'recovering' then move_slot(c, name, 'recover', 'scheduler', 'recovered') end
    if slot.state == 'recovering' then rows.put(slot, 'seen', c.now_text) end
    orders.write(c, name)
  end
end
frame.recover = registration.recover -- asked by whoever writes, before anything else

-- A slot that opened: put the operator's wish back, else hand out what is ready on it.
local function settle(c, name)
  local slot = rows.slot(c, name)
  if slot.state == 'open' and (slot.wish or '') ~= '' then move_slot(c, name, slot.wish, 'scheduler', 'wish') end
  if slot.state == 'open' then
    for _, model in ipairs(words(slot.models)) do
      if rows.residency(c, name, model).state == 'ready' then handout.hand_out(c, model) end
    end
  end
end

local function introduce(c, name)
  local slot = rows.slot(c, name)
  rows.put(slot, 'state', 'recovering')
  rows.put(slot, 'seen', c.now_text)
  redis.call('SADD', c.P .. ':slots', name)
  events.emit(c, 'slot', {'slot', name, 'who', 'worker:' .. name, 'why', 'introduced', 'to', 'recovering'})
  orders.write(c, name)
  return slot
end

local function confirmed(residency, report, model)
  if report['state:' .. model] == nil or whole(report['gen:' .. model]) ~= int(residency.gen) then return false end
  local seen = report['state:' .. model]
  if residency.state == 'loading' then return seen == 'loading' or seen == 'ready' end
  return residency.state == 'ready' and seen == 'ready'
end

local function keep(c, name, model)
  orders.put(c, name, model)
  for _, id in ipairs(redis.call('ZRANGE', handout.held_key(c, name, model), 0, -1)) do
    local lease = rows.lease(c, id)
    if lease.state == 'active' then
      handout.set_deadline(c, lease, math.max(int(lease.deadline), c.now + int(lease.ttl_ms)))
    end
  end
end

local function remember_boot(slot, boot)
  if (slot.boot or '') == '' or slot.boot == boot then return end
  local boots = words(slot.old_boots)
  boots[#boots + 1] = slot.boot
  if #boots > POOL.OLD_BOOTS then table.remove(boots, 1) end
  rows.put(slot, 'old_boots', table.concat(boots, ' '))
end

local function register(c, name, report)
  local slot = rows.slot(c, name)
  rows.put(slot, 'epoch', s(math.max(int(slot.epoch), whole(report.epoch)) + 1))
  rows.put(slot, 'gen', s(math.max(int(slot.gen), whole(report.hw)) + 1))
  if (slot.boot or '') ~= report.boot then inspections.start_over(c, name) end
  remember_boot(slot, report.boot)
  rows.put(slot, 'boot', report.boot)
  rows.put(slot, 'home', report.home)
  rows.put(slot, 'inc', report.inc)
  rows.put(slot, 'worker', report.worker or '')
  if (slot.state == 'offline' or slot.state == 'recovering') and (slot.reason or '') ~= '' then
    rows.put(slot, 'reason', '')
  end
  local who = 'worker:' .. name
  move_slot(c, name, 'register', who, slot.worker, 'registered')
  redis.call('DEL', orders.key(c, name))
  for _, model in ipairs(words(slot.models)) do
    local residency = rows.residency(c, name, model)
    if confirmed(residency, report, model) then
      keep(c, name, model)
    elseif orders.occupied(residency) then
      lifecycle.lose_leases(c, name, model, who, 'not_confirmed')
      residencies.withdraw(c, {slot = name, model = model, who = who, why = 'not_confirmed'})
    end
  end
  orders.write(c, name)
end

-- Two hosts that claim one slot would take it from each other for ever: the first keeps it while it lives.
local function is_rival(c, slot, report)
  local lives = slot.state ~= 'offline' and c.now < int(slot.seen) + rows.rule(c, 'silence_ms')
  return lives and (slot.home or '') ~= '' and report.home ~= '' and report.home ~= slot.home
end

local function refuse_rival(c, name, report)
  if redis.call('HGET', orders.key(c, name), 'refused') == report.boot then return end
  local slot = rows.slot(c, name)
  redis.call('HSET', orders.key(c, name), 'refused', report.boot, 'holder', slot.worker or '')
  orders.write(c, name)
  events.emit(c, 'slot', {
    'slot', name, 'gen', events.gen_of(slot), 'who', 'worker:' .. name, 'why', 'refused: ' .. (report.worker or ''),
    'from', slot.state, 'to', slot.state,
  })
end

local function believe_fault(c, name, fault)
  local slot = rows.slot(c, name)
  if fault ~= '' then
    if move_slot(c, name, 'fault', 'worker:' .. name, fault) then rows.put(slot, 'reason', fault) end
  elseif slot.state == 'quarantined' then
    rows.put(slot, 'reason', '')
    move_slot(c, name, 'heal', 'worker:' .. name, '')
    settle(c, name)
  end
end

local function believe(c, name, report)
  local slot = rows.slot(c, name)
  for _, field in ipairs({'budget_mib', 'total_mib', 'free_mib', 'foreign_mib'}) do
    rows.put(slot, field, s(whole(report[field])))
  end
  rows.put(slot, 'foreign', report.foreign or '')
  rows.put(slot, 'used_percent', s(whole(report.used_percent)))
  rows.put(slot, 'foreign_percent', s(whole(report.foreign_percent)))
  rows.put(slot, 'serves', table.concat(sorted(words(report.serves)), ' '))
  rows.put(slot, 'priors', inspections.priors_of(slot, report))
  believe_fault(c, name, report.fault or '')
  for _, model in ipairs(words(slot.models)) do beliefs.believe(c, name, model, report) end
  inspections.believe(c, name, report)
end

-- An unsound report sets its slot offline; one that counts for nothing anyway does not.
local function distrust(c, name, report, why)
  local slot = rows.slot(c, name)
  if has(words(slot.old_boots), report.boot) or is_rival(c, slot, report) then return end
  move_slot(c, name, 'distrust', 'worker:' .. name, REPORTS.UNSOUND .. why, 'offline')
  rows.put(slot, 'reason', REPORTS.UNSOUND .. why)
end

-- The six cases are those of pool/slots/registration.py: observe.
function registration.observe(c, name)
  local kind = redis.call('TYPE', c.P .. ':report:' .. name).ok
  if kind == 'none' then return end
  local slot = rows.complete(rows.slot(c, name))
  if not slot.state then
    if not reports.is_name(name) or redis.call('SCARD', c.P .. ':slots') >= REPORTS.MOST_SLOTS then return end
    slot = introduce(c, name)
  end
  local report, why = reports.read(c, name, slot, kind)
  if why then
    distrust(c, name, report, why)
    return
  end
  if has(words(slot.old_boots), report.boot) then return end
  if report.inc ~= c.inc then return end
  if is_rival(c, slot, report) then
    refuse_rival(c, name, report)
    return
  end
  local unknown = report.boot ~= (slot.boot or '') or report.inc ~= (slot.inc or '')
  local fresh = unknown or whole(report.beat) ~= int(slot.beat)
  if slot.state == 'offline' and not fresh then return end
  local registered = unknown or whole(report.epoch) > int(slot.epoch) or slot.state == 'offline'
    or slot.state == 'recovering'
  if registered then register(c, name, report) end
  if fresh then
    rows.put(slot, 'beat', s(whole(report.beat)))
    rows.put(slot, 'seen', c.now_text)
  end
  if registered or whole(report.epoch) == int(slot.epoch) then believe(c, name, report) end
  if registered then settle(c, name) end
end

function registration.silence(c)
  for _, name in ipairs(registration.slots_of(c)) do
    local slot = rows.slot(c, name)
    if slot.state ~= 'offline' and c.now >= int(slot.seen) + rows.rule(c, 'silence_ms') then
      move_slot(c, name, 'silence', 'scheduler', 'silent', 'offline')
    end
  end
end

function registration.set_slot(c, name, event, who)
  local slot = rows.slot(c, name)
  if not slot.state or (POOL.WISHES[event] == nil and event ~= 'heal') then
    refuse('BAD_ARGUMENT', 'unknown slot ' .. name .. ' or event ' .. event)
  end
  if event == 'heal' then residencies.heal(c, name) else rows.put(slot, 'wish', POOL.WISHES[event]) end
  if not move_slot(c, name, event, who, event) then
    events.emit(c, 'slot', {
      'slot', name, 'gen', events.gen_of(slot), 'who', who, 'why', event, 'from', slot.state, 'to', slot.state,
    })
  end
  if event ~= 'cordon' and slot.state ~= 'quarantined' then rows.put(slot, 'reason', '') end
  settle(c, name)
end

end
