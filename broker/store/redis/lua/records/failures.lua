-- What is on record of a model's failures on a slot. Twin of broker/pool/records/failures.py, whose numbers these are.
local failing_kind, keeps_record, is_old, is_given_up, count_load, count_fall, note_unsound, forgive_loads, forgive
do

function failing_kind(residency)
  local kind = residency.kind
  return kind ~= '' and kind or nil
end

function keeps_record(residency) return failing_kind(residency) ~= nil or int(residency.falls) > 0 end

function is_old(c, residency)
  local kind = failing_kind(residency)
  return kind ~= nil and kind ~= 'unsound' and c.now >= int(residency.failed_at) + POOL.FORGET_MS
end

function is_given_up(c, residency)
  return failing_kind(residency) == 'unsound' or (residency.quarantined == '1' and int(residency.retry_at) > c.now)
end

local function give_up(c, slot, name)
  local residency = residency_row(c, slot, name)
  local pause_ms = rule(c, 'load_backoff_ms') * 2 ^ math.min(int(residency.given_up), POOL.MOST_DOUBLINGS)
  add(residency, 'given_up', 1)
  put(residency, 'quarantined', '1')
  put(residency, 'retry_at', s(c.now + pause_ms))
end

local function short_ms(c, doublings)
  return math.min(rule(c, 'load_retry_ms') * 2 ^ math.min(doublings, 30), rule(c, 'load_backoff_ms'))
end

-- `failure` is {kind, error, stamp}.
local function put_failure(c, slot, name, failure, retry_at)
  local residency, model = residency_row(c, slot, name), model_row(c, name)
  put(residency, 'kind', failure.kind)
  put(residency, 'error', failure.error)
  put(residency, 'stamp', failure.stamp)
  put(residency, 'failed_at', c.now_text)
  put(residency, 'quarantined', '')
  put(residency, 'retry_at', s(retry_at))
  put(model, 'failing', listed(model.failing, slot, true))
end

function count_load(c, slot, name, failure)
  local residency = residency_row(c, slot, name)
  local of_the_host = failure.kind == 'host'
  local tries, fails = int(residency.tries) + 1, int(residency.fails) + (of_the_host and 0 or 1)
  put(residency, 'tries', s(tries))
  put(residency, 'fails', s(fails))
  local enough = failure.kind == 'permanent' and 1 or rule(c, 'max_fails')
  if not of_the_host and fails >= enough then -- 2
    put_failure(c, slot, name, failure, c.now)
    give_up(c, slot, name)
  else -- 1, 3
    put_failure(c, slot, name, failure, c.now + short_ms(c, tries - 1))
  end
end

function count_fall(c, slot, name, failure)
  local residency = residency_row(c, slot, name)
  local proved = POOL.PROVED[failure.kind]
  local stood = c.now - int(residency.loaded) >= (proved and POOL.PROVED_MS or POOL.SURVIVED_MS)
  local falls = stood and 1 or int(residency.falls) + 1
  put(residency, 'falls', s(falls))
  local again = falls - 2
  if not proved and again < 0 then return end
  if again < 0 then
    put_failure(c, slot, name, failure, c.now)
  elseif proved then
    put_failure(c, slot, name, failure, c.now)
    give_up(c, slot, name)
  else
    put_failure(c, slot, name, failure, c.now + short_ms(c, again))
  end
end

function note_unsound(c, slot, name, problem)
  put_failure(c, slot, name, {kind = 'unsound', error = problem, stamp = ''}, 0)
  put(residency_row(c, slot, name), 'quarantined', '1')
end

function forgive_loads(c, slot, name)
  local residency, model = residency_row(c, slot, name), model_row(c, name)
  for _, field in ipairs({'kind', 'error', 'stamp', 'quarantined'}) do put(residency, field, '') end
  for _, field in ipairs({'failed_at', 'fails', 'tries', 'retry_at'}) do put(residency, field, '0') end
  if int(residency.falls) == 0 then put(residency, 'given_up', '0') end
  put(model, 'failing', listed(model.failing, slot, false))
end

function forgive(c, slot, name)
  put(residency_row(c, slot, name), 'falls', '0')
  forgive_loads(c, slot, name)
end

end
