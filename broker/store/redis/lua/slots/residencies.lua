-- Models on slots: ordered, ready, failed, withdrawn, gone. Twin of broker/pool/slots/residencies.py.
-- `at` is {slot, model, who, why, room_for}; the last is the model that it must make room for, if any.
local reset, order, become_ready, fail, die, withdraw, forget, vanish, forgive_and_forget, heal
do

local function move(c, at, event, why)
  local residency = residency_row(c, at.slot, at.model)
  local was = residency.state
  local to = RESIDENCY_TRANSITIONS[was][event]
  if to == nil then refuse('INTERNAL', 'a residency that is ' .. was .. ' cannot ' .. event) end
  put(residency, 'state', to)
  local model = model_row(c, at.model)
  put(model, 'ready', listed(model.ready, at.slot, to == 'ready'))
  put(model, 'loading', listed(model.loading, at.slot, to == 'loading'))
  if was == 'ready' then
    put(model, 'left_at', c.now_text)
    put(model, 'left_slot', at.slot)
    put(model, 'left_why', why or at.why)
    put(model, 'left_for', at.room_for or '')
  end
  emit(c, RESIDENCY_KIND[event], {
    'model', at.model, 'slot', at.slot, 'gen', gen_of(residency), 'who', at.who, 'why', why or at.why,
    'for', at.room_for or '', 'from', was, 'to', to,
  })
end

-- A record with nothing in it but what is known of earlier failures.
function reset(residency)
  local kept = {gen = residency.gen, state = residency.state}
  for _, field in ipairs(POOL.FAILURE_FIELDS) do kept[field] = residency[field] end
  for i = 1, #POOL.NEW_RESIDENCY, 2 do
    local field = POOL.NEW_RESIDENCY[i]
    put(residency, field, kept[field] or POOL.NEW_RESIDENCY[i + 1])
  end
end

function order(c, at, gen, key)
  local residency, slot, model = residency_row(c, at.slot, at.model), slot_row(c, at.slot), model_row(c, at.model)
  if is_old(c, residency) then forgive(c, at.slot, at.model) end
  reset(residency)
  put(residency, 'gen', gen)
  put(residency, 'key', key)
  put(residency, 'started', c.now_text)
  put(residency, 'why', at.why)
  if at.why == POOL.GUESS then put(residency, 'prefetched', '1') end
  put(model, 'resting', '')
  if int(model.queued) > 0 and int(model.wrong_guesses) > 0 then add(model, 'wrong_guesses', -1) end -- it would have been right
  put(slot, 'models', listed(slot.models, at.model, true))
  move(c, at, 'order')
end

function become_ready(c, at, took_ms)
  local residency = residency_row(c, at.slot, at.model)
  forgive_loads(c, at.slot, at.model)
  local elapsed_ms = c.now - int(residency.started)
  if took_ms <= 0 or took_ms > elapsed_ms then took_ms = elapsed_ms end
  learn(model_row(c, at.model), 'load', took_ms)
  put(residency, 'loaded', c.now_text)
  put(residency, 'used_at', c.now_text)
  put(residency, 'waited', s(c.arrival + 1))
  put(residency, 'admit', POOL.ADMIT_ALL)
  put(residency, 'progress', '100')
  move(c, at, 'become_ready')
  hand_out(c, at.model)
end

function fail(c, at, failure)
  local residency = residency_row(c, at.slot, at.model)
  count_load(c, at.slot, at.model, failure)
  put(residency, 'started', c.now_text)
  put(residency, 'loaded', '0')
  move(c, at, 'fail', failure.error)
  reject_if_hopeless(c, at.model)
end

function die(c, at, failure)
  local residency = residency_row(c, at.slot, at.model)
  lose_leases(c, at.slot, at.model, at.who, string.match(failure.error, '^[^:]*'))
  count_fall(c, at.slot, at.model, failure)
  put(residency, 'started', c.now_text)
  put(residency, 'loaded', '0')
  move(c, at, 'die', failure.error)
  reject_if_hopeless(c, at.model)
end

function withdraw(c, at)
  local residency = residency_row(c, at.slot, at.model)
  if residency.prefetched == '1' then
    local model = model_row(c, at.model)
    put(model, 'wrong_guesses', s(math.min(int(model.wrong_guesses) + POOL.WRONG, POOL.MOST_WRONG)))
  end
  if residency.state == 'ready' and c.now - int(residency.loaded) >= POOL.SURVIVED_MS then
    forgive(c, at.slot, at.model)
  end
  put(residency, 'started', c.now_text)
  move(c, at, 'withdraw')
  reject_cold(c, at.model)
end

function forget(c, slot_name, model)
  local slot = slot_row(c, slot_name)
  put(slot, 'models', listed(slot.models, model, false))
  local key = c.P .. ':residency:' .. slot_name .. ':' .. model
  redis.call('DEL', key)
  local row = c.rows[key]
  for field in pairs(row) do
    if field ~= KEY then row[field] = nil end
  end
  changes_of[row] = nil
  row.state = 'absent'
end

function vanish(c, at)
  local residency = residency_row(c, at.slot, at.model)
  if residency.state == 'unloading' and int(residency.loaded) > 0 then
    learn(model_row(c, at.model), 'unload', c.now - int(residency.started))
  end
  move(c, at, 'vanish')
  if keeps_record(residency) then
    reset(residency)
  else
    forget(c, at.slot, at.model)
  end
end

function forgive_and_forget(c, slot, model)
  forgive(c, slot, model)
  if residency_row(c, slot, model).state == 'absent' then forget(c, slot, model) end
end

function heal(c, slot)
  for _, model in ipairs(words(slot_row(c, slot).models)) do forgive_and_forget(c, slot, model) end
end

end
