-- What a sound report says of the models on its slot.
local beliefs = {}
do

local function take_over(residency, report, model)
  rows.put(residency, 'url', report['url:' .. model] or '')
  rows.put(residency, 'mib', s(whole(report['mib:' .. model])))
end

local function text_of(value) return value ~= '' and value or nil end

local function failure_of(model, state, report)
  if state ~= 'failed' then return {kind = 'passing', error = 'server_died', stamp = ''} end
  local kind = report['failure:' .. model]
  return {
    kind = POOL.KINDS[kind] and kind or 'passing', error = text_of(report['error:' .. model]) or 'server_died',
    stamp = report['stamp:' .. model] or '',
  }
end

local function believe_load(c, at, state, report)
  local residency = rows.residency(c, at.slot, at.model)
  if state == 'ready' then
    take_over(residency, report, at.model)
    residencies.become_ready(c, at, whole(report['took_ms:' .. at.model]))
  elseif state == 'failed' then
    residencies.fail(c, at, failure_of(at.model, state, report))
    orders.withdraw(c, at)
  elseif state == 'loading' then
    rows.put(residency, 'mib', s(whole(report['mib:' .. at.model])))
    local progress = s(whole(report['progress:' .. at.model]))
    if progress ~= residency.progress then
      rows.put(residency, 'progress', progress)
      events.emit(c, 'progress', {
        'model', at.model, 'slot', at.slot, 'gen', events.gen_of(residency), 'who', at.who, 'state', progress,
      })
    end
  end
end

function beliefs.believe(c, name, model, report)
  local residency = rows.residency(c, name, model)
  local state = report['state:' .. model]
  if state == nil or whole(report['gen:' .. model]) ~= int(residency.gen) then state = 'absent' end
  local at = {slot = name, model = model, who = 'worker:' .. name, why = ''}
  if residency.state == 'loading' then
    believe_load(c, at, state, report)
  elseif residency.state == 'ready' and state == 'ready' then
    take_over(residency, report, model)
  elseif residency.state == 'ready' then
    residencies.die(c, at, failure_of(model, state, report))
    orders.withdraw(c, at)
  end
  if residency.state == 'unloading' and state == 'absent' then residencies.vanish(c, at) end
end

end
