-- What the pool learns of lengths, loads, estimates and arrivals. Twin of broker/pool/records/statistics.py.
local statistics = {}
do

local function rounded(value) return math.floor(value + 0.5) end

function statistics.learn(row, name, observed_ms)
  local n, mean, var = int(row[name .. '_n']), int(row[name .. '_ms']), int(row[name .. '_var'])
  if n == 0 then
    mean, var = observed_ms, 0
  else
    local off = observed_ms - mean
    mean = rounded(mean + POOL.ALPHA * off)
    var = rounded((1 - POOL.ALPHA) * (var + POOL.ALPHA * off * off))
  end
  rows.put(row, name .. '_ms', s(mean))
  rows.put(row, name .. '_var', s(var))
  rows.put(row, name .. '_n', s(n + 1))
end

function statistics.learn_error(c, lease, held_ms)
  local key = rows.tenant_key(c, lease.who)
  local off = rounded(math.abs(math.log(math.max(held_ms, 1) / int(lease.estimate_ms))) * 1000)
  local known = redis.call('HMGET', key, 'err', 'err_n')
  local err, n = int(known[1]), int(known[2])
  redis.call('HSET', key, 'err', s(n == 0 and off or rounded(err + POOL.ALPHA * (off - err))), 'err_n', s(n + 1))
  frame.expire_key(c, key, key_limits.ERRORS_KEPT_MS)
end

function statistics.decayed_arrivals(c, model)
  return rounded(int(model.arrivals) * math.exp((int(model.arrived_at) - c.now) / POOL.ARRIVALS_TAU_MS))
end

-- One that was asked for left the line by itself: nothing was used, so nothing more is to be expected.
function statistics.discount_arrival(c, model, arrived_ms)
  local its_part = rounded(POOL.ONE_ARRIVAL * math.exp((arrived_ms - c.now) / POOL.ARRIVALS_TAU_MS))
  rows.put(model, 'arrivals', s(math.max(statistics.decayed_arrivals(c, model) - its_part, 0)))
  rows.put(model, 'arrived_at', c.now_text)
end

end
