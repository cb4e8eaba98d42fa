-- The functions, by the names and arguments that `broker/store/redis_store.py` uses. KEYS[1] is `hotseat:{<pool>}`.
-- `allow-oom` marks those that must work in a full store; a reader never writes.

local function function_of(name, body, flag)
  local flags = flag and {flag} or {}
  redis.register_function({function_name = 'hotseat1_' .. name, callback = body, flags = flags})
end

local function decision(c, args) return {slot = args[1], model = args[3], who = 'scheduler', why = args[4]} end

function_of('hello', function(keys)
  local ready = redis.call('EXISTS', keys[1] .. ':meta') == 1
  return cjson.encode({version = VERSION, hash = HASH, schema = SCHEMA, initialised = ready and '1' or '0'})
end, 'no-writes')

local update = writer(init)
function_of('init', function(keys, args)
  local c = create(keys)
  if c == nil then return update(keys, args) end
  local ok, problem = pcall(init, c, args)
  close(c)
  if not ok then return failure(problem) end
end)

function_of('acquire', writer(function(c, args) return lease_json(c, acquire(c, ask_of(args, 1))) end))

function_of('poll', writer(function(c, args) return lease_json(c, poll(c, args[1], whole(args[2]))) end), 'allow-oom')

function_of('renew', writer(function(c, args)
  return lease_json(c, renew(c, args[1], args[2], whole(args[3]), args[4]))
end), 'allow-oom')

-- `quiet`: who gives back does not look at the answer, and to write it takes a tenth of the call.
function_of('release', writer(function(c, args)
  local lease = release(c, args[1], args[2], args[3])
  return args[4] ~= 'quiet' and lease_json(c, lease) or nil
end), 'allow-oom')

function_of('send_away', writer(function(c, args)
  lives.send_away(c, args[1], args[2], args[3], whole(args[4]), whole(args[5]))
end), 'allow-oom')

-- Brokers: they must be able to say that they live, and to be buried, also in a full store.
function_of('begin_life', writer(function(c, args) lives.begin(c, args[1]) end), 'allow-oom')

function_of('rejoin', writer(function(c, args) lives.rejoin(c, args[1]) end), 'allow-oom')

function_of('beat', writer(function(c, args) lives.beat(c, args[1]) end), 'allow-oom')

function_of('end_life', writer(function(c, args) lives.finish(c, args[1]) end), 'allow-oom')

function_of('end', writer(function(c, args)
  return lease_json(c, finish(c, known_lease(c, args[1]), 'revoke', args[2], args[3]))
end), 'allow-oom')

function_of('preempt', writer(function(c, args) preempt(c, args[1], whole(args[2]), args[3]) end), 'allow-oom')

function_of('tick', writer(function(c) return tick(c) end), 'allow-oom')

function_of('observe', writer(function(c, args) observe(c, args[1]) end), 'allow-oom')

function_of('want', writer(function(c, args)
  local evict = {}
  for i = 6, #args do evict[#evict + 1] = args[i] end
  want(c, decision(c, args), whole(args[2]), args[5], evict)
end))

function_of('unwant', writer(function(c, args) unwant(c, decision(c, args), whole(args[2])) end), 'allow-oom')

function_of('admit', writer(function(c, args) admit(c, decision(c, args), whole(args[2]), args[5]) end), 'allow-oom')

function_of('slot_state', writer(function(c, args) set_slot(c, args[1], args[2], args[3]) end), 'allow-oom')

function_of('ingest', writer(function(c, args)
  local lease = ingest(c, args)
  return lease and lease_json(c, lease)
end))

function_of('reject', writer(function(c, args) reject_ingress(c, args[1], args[2]) end), 'allow-oom')

function_of('ingress', reader(function(c, args)
  return mail.entries(c, math.min(whole(args[1]), CHECKED), whole(args[2]), whole(args[3]))
end), 'no-writes')

-- Also in a store that was emptied: who rang since is what it is made again from.
function_of('rang', function(keys) return mail.rang({P = keys[1]}) end, 'no-writes')

function_of('renew_stream', writer(function(c, args) return mail.renew(c, args[1]) end), 'allow-oom')

function_of('add_day', writer(add_day))

function_of('day', reader(day), 'no-writes')

function_of('mark_private', writer(mark_private))

function_of('mark_again', writer(mark_again))

function_of('witness', writer(witness))

function_of('bow_out', writer(function(c, args) bow_out(c, args[1], args[2]) end), 'allow-oom')

function_of('is_private', reader(is_private), 'no-writes')

function_of('spend', writer(spend))

function_of('spent', reader(spent), 'no-writes')

function_of('snapshot', reader(snapshot), 'no-writes')

function_of('lease', reader(function(c, args) return lease_json(c, known_lease(c, args[1])) end), 'no-writes')

function_of('leases', reader(function(c, args)
  return live_leases(c, args[2] and args[2] ~= '' and {args[2]} or models_of(c), math.min(whole(args[1]), CHECKED))
end), 'no-writes')

function_of('ps', reader(ps), 'no-writes')

function_of('why', reader(function(c, args) return why(c, args[1]) end), 'no-writes')

function_of('check', reader(check), 'no-writes')
