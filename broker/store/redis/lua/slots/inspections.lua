-- What a worker sees of models without a load: what is wrong, what changed, how long a load should take.
-- Twin of pool/slots/inspections.py.
local inspections = {}
do

local function forgive_for(c, slot, model, why)
  residencies.forgive_and_forget(c, slot, model)
  events.emit(c, 'forgiven', {'model', model, 'slot', slot, 'who', 'worker:' .. slot, 'why', why})
end

-- Another worker process: whoever restarted it may have mended anything.
function inspections.start_over(c, slot)
  for _, model in ipairs(words(rows.slot(c, slot).models)) do
    if failures.kind_of(rows.residency(c, slot, model)) ~= nil then forgive_for(c, slot, model, 'restarted') end
  end
end

-- Of models that are not there: what changed is forgiven, what cannot be started is not tried.
function inspections.believe(c, name, report)
  local slot = rows.slot(c, name)
  for _, model in ipairs(words(slot.models)) do
    local row = rows.residency(c, name, model)
    local kind, stamp = failures.kind_of(row), row.stamp or ''
    if row.state == 'absent' and kind ~= nil then
      local seen = report['stamp:' .. model] or ''
      if kind == 'unsound' and (report['unsound:' .. model] or '') == '' then
        forgive_for(c, name, model, 'sound')
      elseif stamp ~= '' and seen ~= '' and seen ~= stamp then
        forgive_for(c, name, model, 'changed')
      end
    end
  end
  for _, model in ipairs(words(slot.serves)) do
    local trouble = report['unsound:' .. model] or ''
    if trouble ~= '' and rows.model(c, model).name then
      local row = rows.residency(c, name, model)
      if row.state == 'absent' and not (failures.kind_of(row) == 'unsound' and row.error == trouble) then
        if not has(words(slot.models), model) then residencies.reset(row) end
        rows.put(slot, 'models', listed(slot.models, model, true))
        failures.note_unsound(c, name, model, trouble)
        events.emit(c, 'unsound', {'model', model, 'slot', name, 'who', 'worker:' .. name, 'why', trouble})
        availability.reject_if_unavailable(c, model)
      end
    end
  end
end

-- Of models that the slot serves: how long a load should take.
function inspections.priors_of(slot, report)
  local told = {}
  for _, model in ipairs(words(slot.serves)) do
    local prior_ms = whole(report['prior_ms:' .. model])
    if prior_ms > 0 then told[#told + 1] = model .. '=' .. s(prior_ms) end
  end
  return table.concat(told, ' ')
end

end
