-- Models on slots: ordered, ready, failed, withdrawn, gone. Twin of broker/core/pool_residencies.py.
-- `at` is {slot, model, who, why}.

local function move(c, at, event, why)
  local residency = residency_row(c, at.slot, at.model)
  local was = residency.state
  local to = RESIDENCY_TRANSITIONS[was][event]
  if to == nil then refuse('INTERNAL', 'a residency that is ' .. was .. ' cannot ' .. event) end
  put(residency, 'state', to)
  local model = model_row(c, at.model)
  put(model, 'ready', listed(model.ready, at.slot, to == 'ready'))
  put(model, 'loading', listed(model.loading, at.slot, to == 'loading'))
  emit(c, RESIDENCY_KIND[event], {
    'model', at.model, 'slot', at.slot, 'gen', gen_of(residency), 'who', at.who, 'why', why or at.why,
    'from', was, 'to', to,
  })
end

local RESIDENCY_DEFAULTS = {
  'state', 'absent', 'gen', '0', 'admit', ADMIT_ALL, 'use', '0', 'url', '', 'key', '', 'progress', '0', 'used_at', '0', 'started', '0', 'loaded', '0', 'waited', '0',
  'mib', '0', 'prefetched', '', 'error', '', 'fails', '0', 'retry_at', '0',
  'quarantined', '',
}

-- A record with nothing in it but what is known of earlier failures.
local function reset(residency)
  local kept = {
    fails = residency.fails, retry_at = residency.retry_at, error = residency.error, gen = residency.gen,
    quarantined = residency.quarantined, state = residency.state,
  }
  for i = 1, #RESIDENCY_DEFAULTS, 2 do
    local field = RESIDENCY_DEFAULTS[i]
    put(residency, field, kept[field] or RESIDENCY_DEFAULTS[i + 1])
  end
end

local function order(c, at, gen, key)
  local residency, slot = residency_row(c, at.slot, at.model), slot_row(c, at.slot)
  reset(residency)
  put(residency, 'gen', gen)
  put(residency, 'key', key)
  put(residency, 'started', c.now_text)
  if int(model_row(c, at.model).queued) == 0 then put(residency, 'prefetched', '1') end
  put(slot, 'models', listed(slot.models, at.model, true))
  move(c, at, 'order')
end

local function forgive(residency)
  put(residency, 'fails', '0')
  put(residency, 'retry_at', '0')
  put(residency, 'quarantined', '')
  put(residency, 'error', '')
end

local function count_failure(c, at, message)
  local residency = residency_row(c, at.slot, at.model)
  local fails = int(residency.fails) + 1
  put(residency, 'fails', s(fails))
  put(residency, 'error', message)
  put(residency, 'retry_at', s(c.now + rule(c, 'load_backoff_ms') * 2 ^ (fails - 1)))
  if fails >= rule(c, 'max_fails') and residency.quarantined ~= '1' then
    put(residency, 'quarantined', '1')
    add(model_row(c, at.model), 'bad', 1)
  end
end

-- Where no slot can serve the model, its tickets end: given up everywhere, or larger than every slot.
local function reject_if_hopeless(c, name)
  local model = model_row(c, name)
  if int(model.queued) == 0 or (model.ready or '') ~= '' then return end
  if quarantined_everywhere(c, name) then
    reject_waiting(c, name, 'model_quarantined')
  elseif fits_nowhere(c, model) then
    reject_waiting(c, name, 'model_too_large')
  end
end

local function become_ready(c, at, took_ms)
  local residency = residency_row(c, at.slot, at.model)
  if took_ms <= 0 then took_ms = c.now - int(residency.started) end
  learn(model_row(c, at.model), 'load', took_ms)
  put(residency, 'loaded', c.now_text)
  put(residency, 'used_at', c.now_text)
  put(residency, 'waited', s(c.arrival + 1))
  put(residency, 'admit', ADMIT_ALL)
  put(residency, 'progress', '100')
  move(c, at, 'become_ready')
  hand_out(c, at.model)
end

local function fail(c, at, message)
  local residency = residency_row(c, at.slot, at.model)
  count_failure(c, at, message)
  put(residency, 'started', c.now_text)
  put(residency, 'loaded', '0')
  move(c, at, 'fail', message)
  reject_if_hopeless(c, at.model)
end

local function die(c, at)
  local residency = residency_row(c, at.slot, at.model)
  lose_leases(c, at.slot, at.model, at.who, at.why)
  if c.now - int(residency.loaded) < SURVIVED_MS then
    count_failure(c, at, at.why)
  else
    forgive(residency)
  end
  put(residency, 'started', c.now_text)
  put(residency, 'loaded', '0')
  move(c, at, 'die')
  reject_if_hopeless(c, at.model)
end

local function withdraw(c, at)
  local residency = residency_row(c, at.slot, at.model)
  if residency.state == 'ready' and c.now - int(residency.loaded) >= SURVIVED_MS then forgive(residency) end
  put(residency, 'started', c.now_text)
  move(c, at, 'withdraw')
end

local function forget(c, slot_name, model)
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

local function vanish(c, at)
  local residency = residency_row(c, at.slot, at.model)
  if residency.state == 'unloading' and int(residency.loaded) > 0 then
    learn(model_row(c, at.model), 'unload', c.now - int(residency.started))
  end
  move(c, at, 'vanish')
  if int(residency.fails) > 0 then
    reset(residency)
  else
    forget(c, at.slot, at.model)
  end
end

local function heal(c, slot)
  for _, model in ipairs(words(slot_row(c, slot).models)) do
    local residency = residency_row(c, slot, model)
    if residency.quarantined == '1' then add(model_row(c, model), 'bad', -1) end
    forgive(residency)
    if residency.state == 'absent' then forget(c, slot, model) end
  end
end
