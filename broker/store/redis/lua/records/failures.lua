-- What is on record of a model's failures on a slot. Twin of broker/pool/records/failures.py, whose numbers these are.
local failures = {}
do

function failures.kind_of(residency)
  local kind = residency.kind
  return kind ~= '' and kind or nil
end

function failures.in_a_row(record) return math.max(int(record.tries), int(record.falls)) end

function failures.keeps(residency) return failures.kind_of(residency) ~= nil or int(residency.falls) > 0 end

function failures.is_old(c, residency)
  local kind = failures.kind_of(residency)
  return kind ~= nil and kind ~= 'unsound' and c.now >= int(residency.failed_at) + POOL.FORGET_MS
end

function failures.is_given_up(c, residency)
  return failures.kind_of(residency) == 'unsound' or (residency.quarantined == '1' and int(residency.retry_at) > c.now)
end

local function give_up(c, slot, name)
  local residency = rows.residency(c, slot, name)
  local pause_ms = rows.rule(c, 'load_backoff_ms') * 2 ^ math.min(int(residency.given_up), POOL.MOST_DOUBLINGS)
  rows.add(residency, 'given_up', 1)
  rows.put(residency, 'quarantined', '1')
  rows.put(residency, 'retry_at', s(c.now + pause_ms))
end

local function short_ms(c, doublings)
  return math.min(rows.rule(c, 'load_retry_ms') * 2 ^ math.min(doublings, 30), rows.rule(c, 'load_backoff_ms'))
end

-- `failure` is {kind, error, stamp}.
local function put_failure(c, slot, name, failure, retry_at)
  local residency, model = rows.residency(c, slot, name), rows.model(c, name)
  rows.put(residency, 'kind', failure.kind)
  rows.put(residency, 'error', failure.error)
  rows.put(residency, 'stamp', failure.stamp)
  rows.put(residency, 'failed_at', c.now_text)
  rows.put(residency, 'quarantined', '')
  rows.put(residency, 'retry_at', s(retry_at))
  rows.put(model, 'failing', listed(model.failing, slot, true))
end

function failures.count_load(c, slot, name, failure)
  local residency = rows.residency(c, slot, name)
  local of_the_host = failure.kind == 'host'
  local tries, fails = int(residency.tries) + 1, int(residency.fails) + (of_the_host and 0 or 1)
  rows.put(residency, 'tries', s(tries))
  rows.put(residency, 'fails', s(fails))
  local enough = failure.kind == 'permanent' and 1 or rows.rule(c, 'max_fails')
  if not of_the_host and fails >= enough then -- 2
    put_failure(c, slot, name, failure, c.now)
    give_up(c, slot, name)
  else -- 1, 3
    put_failure(c, slot, name, failure, c.now + short_ms(c, tries - 1))
  end
end

function failures.count_fall(c, slot, name, failure)
  local residency = rows.residency(c, slot, name)
  local proved = POOL.PROVED[failure.kind]
  local stood = c.now - int(residency.loaded) >= (proved and POOL.PROVED_MS or POOL.SURVIVED_MS)
  local falls = stood and 1 or int(residency.falls) + 1
  rows.put(residency, 'falls', s(falls))
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

function failures.note_unsound(c, slot, name, problem)
  put_failure(c, slot, name, {kind = 'unsound', error = problem, stamp = ''}, 0)
  rows.put(rows.residency(c, slot, name), 'quarantined', '1')
end

function failures.forgive_loads(c, slot, name)
  local residency, model = rows.residency(c, slot, name), rows.model(c, name)
  for _, field in ipairs({'kind', 'error', 'stamp', 'quarantined'}) do rows.put(residency, field, '') end
  for _, field in ipairs({'failed_at', 'fails', 'tries', 'retry_at'}) do rows.put(residency, field, '0') end
  if int(residency.falls) == 0 then rows.put(residency, 'given_up', '0') end
  rows.put(model, 'failing', listed(model.failing, slot, false))
end

function failures.forgive(c, slot, name)
  rows.put(rows.residency(c, slot, name), 'falls', '0')
  failures.forgive_loads(c, slot, name)
end

end
