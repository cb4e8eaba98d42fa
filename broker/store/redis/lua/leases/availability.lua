-- May waiting for a model come to something? Twin of broker/pool/leases/availability.py, whose numbers these are.
local availability = {}
do

local function pause_s(c) return math.max(1, math.ceil(rows.rule(c, 'load_backoff_ms') / 1000)) end

local function retry_s(c, record)
  if failures.kind_of(record) == 'unsound' then return pause_s(c) end
  return math.max(1, math.ceil((int(record.retry_at) - c.now) / 1000))
end

-- Memory of other models that are pinned to a slot: there, and of the first slots where they are, as many as they are
-- to have.
local function pinned_mib(c, slot, row, model)
  local sum = 0
  for _, name in ipairs(words(row.models)) do
    local other = rows.model(c, name)
    if name ~= model.name and other.pinned == '1' then
      local homes = sorted(words((other.ready or '') .. ' ' .. (other.loading or '')))
      for at = 1, math.min(#homes, math.max(int(other.keep), 1)) do
        if homes[at] == slot then sum = sum + int(other.memory_mib) end
      end
    end
  end
  return sum
end

-- Is it larger than what every slot that ever reported would have without foreign processes, beside what is
-- pinned there?
local function fits_nowhere(c, model)
  local largest = nil
  for _, slot in ipairs(redis.call('SMEMBERS', c.P .. ':slots')) do
    local row = rows.slot(c, slot)
    if int(row.budget_mib) > 0 then
      local room = int(row.budget_mib) + int(row.foreign_mib) - pinned_mib(c, slot, row, model)
      largest = math.max(largest or room, room)
    end
  end
  return largest ~= nil and largest < int(model.memory_mib)
end

function availability.newest_failure(c, model)
  local newest = nil
  for _, slot in ipairs(words(model.failing)) do
    local record = rows.residency(c, slot, model.name)
    if newest == nil or int(record.failed_at) > int(newest.failed_at) then newest = record end
  end
  return newest
end

local function given_up(c, model)
  if (model.failing or '') == '' then return nil end
  local soonest = nil
  for _, slot in ipairs(redis.call('SMEMBERS', c.P .. ':slots')) do
    local row = rows.slot(c, slot)
    if row.state ~= 'offline' and has(words(row.serves), model.name) then
      local record = rows.residency(c, slot, model.name)
      if not failures.is_given_up(c, record) then return nil end
      local seconds = retry_s(c, record)
      if soonest == nil or seconds < soonest then soonest = seconds end
    end
  end
  if soonest == nil then return nil end
  local newest = availability.newest_failure(c, model)
  local told = newest.error or ''
  if newest.kind == 'permanent' or newest.kind == 'unsound' then
    return {code = 'LOAD_FAILED', seconds = soonest, text = model.name .. ' cannot be loaded: ' .. told,
      why = 'load_failed: ' .. told}
  end
  return {code = 'MODEL_QUARANTINED', seconds = soonest,
    text = model.name .. ' failed too often, the last time: ' .. told, why = 'model_quarantined: ' .. told}
end

function availability.unavailable(c, model)
  local off = model.off or ''
  if off ~= '' then -- 1
    return {code = 'MODEL_OFF', seconds = pause_s(c), text = model.name .. ' is out of service: ' .. off,
      why = 'model_off: ' .. off}
  end
  if (model.ready or '') ~= '' then return nil end -- 2
  if fits_nowhere(c, model) then -- 3
    return {code = 'MODEL_TOO_LARGE', text = model.name .. ' needs ' .. model.memory_mib .. ' MiB, ' .. POOL.TOO_LARGE,
      why = 'model_too_large'}
  end
  return given_up(c, model) -- 4
end

-- Has no catalogue of a worker that ever registered an entry for it?
local function served_nowhere(c, name)
  local registered = false
  for _, slot in ipairs(redis.call('SMEMBERS', c.P .. ':slots')) do
    local row = rows.slot(c, slot)
    if (row.boot or '') ~= '' then
      if has(words(row.serves), name) then return false end
      registered = true
    end
  end
  return registered
end

function availability.reject_if_unavailable(c, name)
  local model = rows.model(c, name)
  if int(model.queued) == 0 then return end
  local found = availability.unavailable(c, model)
  if found ~= nil then
    lifecycle.reject_waiting(c, name, found.why, c.now)
  elseif served_nowhere(c, name) then -- 5
    lifecycle.reject_waiting(c, name, 'no_worker: ' .. POOL.UNSERVED, c.now - POOL.UNSERVED_MS)
  end
  lifecycle.reject_cold(c, name) -- 6
end

end
