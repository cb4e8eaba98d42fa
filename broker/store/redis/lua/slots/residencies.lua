-- Models on slots: ordered, ready, failed, withdrawn, gone. Twin of broker/pool/slots/residencies.py.
-- `at` is {slot, model, who, why, room_for}; the last is the model that it must make room for, if any.
local residencies = {}
do

local function move(c, at, event, why)
  local residency = rows.residency(c, at.slot, at.model)
  local was = residency.state
  local to = RESIDENCY_TRANSITIONS[was][event]
  if to == nil then refuse('INTERNAL', 'a residency that is ' .. was .. ' cannot ' .. event) end
  rows.put(residency, 'state', to)
  local model = rows.model(c, at.model)
  rows.put(model, 'ready', listed(model.ready, at.slot, to == 'ready'))
  rows.put(model, 'loading', listed(model.loading, at.slot, to == 'loading'))
  if was == 'ready' then
    rows.put(model, 'left_at', c.now_text)
    rows.put(model, 'left_slot', at.slot)
    rows.put(model, 'left_why', why or at.why)
    rows.put(model, 'left_for', at.room_for or '')
  end
  events.emit(c, RESIDENCY_KIND[event], {
    'model', at.model, 'slot', at.slot, 'gen', events.gen_of(residency), 'who', at.who, 'why', why or at.why,
    'for', at.room_for or '', 'from', was, 'to', to,
  })
end

-- A record with nothing in it but what is known of earlier failures.
function residencies.reset(residency)
  local kept = {gen = residency.gen, state = residency.state}
  for _, field in ipairs(POOL.FAILURE_FIELDS) do kept[field] = residency[field] end
  for i = 1, #POOL.NEW_RESIDENCY, 2 do
    local field = POOL.NEW_RESIDENCY[i]
    rows.put(residency, field, kept[field] or POOL.NEW_RESIDENCY[i + 1])
  end
end

function residencies.order(c, at, gen, key, depth)
  local residency, slot, model = rows.residency(c, at.slot, at.model), rows.slot(c, at.slot), rows.model(c, at.model)
  if failures.is_old(c, residency) then failures.forgive(c, at.slot, at.model) end
  residencies.reset(residency)
  rows.put(residency, 'gen', gen)
  rows.put(residency, 'key', key)
  rows.put(residency, 'wanted', depth)
  rows.put(residency, 'started', c.now_text)
  rows.put(residency, 'why', at.why)
  if at.why == POOL.GUESS then rows.put(residency, 'prefetched', '1') end
  rows.put(model, 'resting', '')
  if int(model.queued) > 0 and int(model.wrong_guesses) > 0 then -- it would have been right
    rows.add(model, 'wrong_guesses', -1)
  end
  rows.put(slot, 'models', listed(slot.models, at.model, true))
  move(c, at, 'order')
end

function residencies.become_ready(c, at, took_ms)
  local residency = rows.residency(c, at.slot, at.model)
  failures.forgive_loads(c, at.slot, at.model)
  local elapsed_ms = c.now - int(residency.started)
  if took_ms <= 0 or took_ms > elapsed_ms then took_ms = elapsed_ms end
  statistics.learn(rows.model(c, at.model), 'load', took_ms)
  rows.put(residency, 'loaded', c.now_text)
  rows.put(residency, 'used_at', c.now_text)
  rows.put(residency, 'waited', s(c.arrival + 1))
  rows.put(residency, 'admit', POOL.ADMIT_ALL)
  rows.put(residency, 'progress', '100')
  move(c, at, 'become_ready')
  handout.hand_out(c, at.model)
end

function residencies.fail(c, at, failure)
  local residency = rows.residency(c, at.slot, at.model)
  failures.count_load(c, at.slot, at.model, failure)
  rows.put(residency, 'started', c.now_text)
  rows.put(residency, 'loaded', '0')
  move(c, at, 'fail', failure.error)
  availability.reject_if_unavailable(c, at.model)
end

function residencies.die(c, at, failure)
  local residency = rows.residency(c, at.slot, at.model)
  lifecycle.lose_leases(c, at.slot, at.model, at.who, string.match(failure.error, '^[^:]*'))
  failures.count_fall(c, at.slot, at.model, failure)
  rows.put(residency, 'started', c.now_text)
  rows.put(residency, 'loaded', '0')
  move(c, at, 'die', failure.error)
  availability.reject_if_unavailable(c, at.model)
end

function residencies.withdraw(c, at)
  local residency = rows.residency(c, at.slot, at.model)
  if residency.prefetched == '1' then
    local model = rows.model(c, at.model)
    rows.put(model, 'wrong_guesses', s(math.min(int(model.wrong_guesses) + POOL.WRONG, POOL.MOST_WRONG)))
  end
  if residency.state == 'ready' and c.now - int(residency.loaded) >= POOL.SURVIVED_MS then
    failures.forgive(c, at.slot, at.model)
  end
  rows.put(residency, 'started', c.now_text)
  move(c, at, 'withdraw')
  lifecycle.reject_cold(c, at.model)
end

function residencies.forget(c, slot_name, model)
  local slot = rows.slot(c, slot_name)
  rows.put(slot, 'models', listed(slot.models, model, false))
  local key = c.P .. ':residency:' .. slot_name .. ':' .. model
  redis.call('DEL', key)
  local row = c.rows[key]
  rows.erase(row)
  row.state = 'absent'
end

function residencies.vanish(c, at)
  local residency = rows.residency(c, at.slot, at.model)
  if residency.state == 'unloading' and int(residency.loaded) > 0 then
    statistics.learn(rows.model(c, at.model), 'unload', c.now - int(residency.started))
  end
  move(c, at, 'vanish')
  if failures.keeps(residency) then
    residencies.reset(residency)
  else
    residencies.forget(c, at.slot, at.model)
  end
end

function residencies.forgive_and_forget(c, slot, model)
  failures.forgive(c, slot, model)
  if rows.residency(c, slot, model).state == 'absent' then residencies.forget(c, slot, model) end
end

function residencies.heal(c, slot)
  for _, model in ipairs(words(rows.slot(c, slot).models)) do residencies.forgive_and_forget(c, slot, model) end
end

end
