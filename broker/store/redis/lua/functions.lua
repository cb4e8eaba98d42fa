-- The functions, by the names and arguments that `broker/store/redis/store.py` uses. KEYS[1] is `hotseat:{<pool>}`.
-- `allow-oom` marks those that must work in a full store; a reader never writes. Above each: its arguments, its reply
-- (`the lease`: its JSON, see views.lua), the events it may append and the codes it may refuse with. Besides, all but
-- hello, init and rang refuse with UNINITIALISED; whoever writes may find the server to be another one (recovered) or
-- its clock to have jumped (clock_step); and a call about a lease whose time has come ends it first, and hands out
-- (ended, granted).

do

local function function_of(name, body, flag)
  local flags = flag and {flag} or {}
  redis.register_function({function_name = 'hotseat1_' .. name, callback = body, flags = flags})
end

local function decision(c, args) return {slot = args[1], model = args[3], who = 'scheduler', why = args[4]} end

-- ARGV: none. Reply: JSON of version, hash, schema, and whether the pool is initialised. Errors: none.
function_of('hello', function(keys)
  local ready = redis.call('EXISTS', keys[1] .. ':meta') == 1
  return cjson.encode({version = VERSION, hash = HASH, schema = SCHEMA, initialised = ready and '1' or '0'})
end, 'no-writes')

-- ARGV: how many settings, each its name and value, then of each model POOL.SPEC_FIELDS. Reply: nil.
-- Events: initialised. Errors: BAD_ARGUMENT.
local update = frame.writer(machine.init)
function_of('init', function(keys, args)
  local c = machine.create(keys)
  if c == nil then return update(keys, args) end
  local ok, problem = pcall(machine.init, c, args)
  frame.close(c)
  if not ok then return frame.failure(problem) end
end)

-- ARGV: the fields of an Ask (LEASE.ask). Reply: the lease. Events: queued, granted, renewed.
-- Errors: BAD_ARGUMENT, OP_MISMATCH, LIFE_ENDED, UNKNOWN_MODEL, MODEL_OFF, MODEL_TOO_LARGE, LOAD_FAILED,
-- MODEL_QUARANTINED, MODEL_NOT_WARM, TENANT_FULL, QUEUE_FULL, SESSION_QUEUE_FULL.
function_of('acquire', frame.writer(function(c, args)
  return views.lease_json(c, acquire.acquire(c, acquire.ask_of(args, 1)))
end))

-- ARGV: lease id, waiter TTL in ms. Reply: the lease. Events: renewed (claimed). Errors: NOT_FOUND, BAD_ARGUMENT.
function_of('poll', frame.writer(function(c, args)
  return views.lease_json(c, lifecycle.poll(c, args[1], whole(args[2])))
end), 'allow-oom')

-- ARGV: lease id, nonce, TTL in ms, who. Reply: the lease. Events: renewed.
-- Errors: NOT_FOUND, STALE_NONCE, LEASE_ENDED, BAD_ARGUMENT.
function_of('renew', frame.writer(function(c, args)
  return views.lease_json(c, lifecycle.renew(c, args[1], args[2], whole(args[3]), args[4]))
end), 'allow-oom')

-- ARGV: lease id, nonce, who, `quiet` or nothing. Reply: the lease; nil where it is to be quiet, for who gives back
-- does not look at it, and to write it takes a tenth of the call. Events: ended, granted. Errors: NOT_FOUND,
-- STALE_NONCE.
function_of('release', frame.writer(function(c, args)
  local lease = lifecycle.release(c, args[1], args[2], args[3])
  return args[4] ~= 'quiet' and views.lease_json(c, lease) or nil
end), 'allow-oom')

-- ARGV: lease id, nonce, life, until it is back in ms, how long its place is kept after that in ms. Reply: nil.
-- Events: none. Errors: NOT_FOUND, STALE_NONCE, BAD_ARGUMENT.
function_of('send_away', frame.writer(function(c, args)
  broker_lives.send_away(c, args[1], args[2], args[3], whole(args[4]), whole(args[5]))
end), 'allow-oom')

-- ARGV: life. Reply: nil. Events: broker; of the lives before it ended, granted. Errors: BAD_ARGUMENT, LIFE_ENDED.
-- Brokers must be able to say that they live, and to be buried, also in a full store.
function_of('begin_life', frame.writer(function(c, args) broker_lives.begin(c, args[1]) end), 'allow-oom')

-- ARGV: life. Reply: nil. Events: broker. Errors: BAD_ARGUMENT, LIFE_ENDED.
function_of('rejoin', frame.writer(function(c, args) broker_lives.rejoin(c, args[1]) end), 'allow-oom')

-- ARGV: life. Reply: nil. Events: none. Errors: LIFE_ENDED.
function_of('beat', frame.writer(function(c, args) broker_lives.beat(c, args[1]) end), 'allow-oom')

-- ARGV: life. Reply: nil. Events: broker, ended, granted. Errors: none.
function_of('end_life', frame.writer(function(c, args) broker_lives.finish(c, args[1]) end), 'allow-oom')

-- ARGV: lease id, who, why. Reply: the lease. Events: ended, granted. Errors: NOT_FOUND.
function_of('end', frame.writer(function(c, args)
  return views.lease_json(c, lifecycle.finish(c, rows.known_lease(c, args[1]), 'revoke', args[2], args[3]))
end), 'allow-oom')

-- ARGV: lease id, grace in ms, why. Reply: nil. Events: ending. Errors: NOT_FOUND, STALE, BAD_ARGUMENT.
function_of('preempt', frame.writer(function(c, args)
  lifecycle.preempt(c, args[1], whole(args[2]), args[3])
end), 'allow-oom')

-- ARGV: none. Reply: ms until the next deadline, empty where there is none. Events: ended, granted, broker, offline.
-- Errors: none.
function_of('tick', frame.writer(function(c) return machine.tick(c) end), 'allow-oom')

-- ARGV: slot. Reply: nil. Events: slot, registered, loading … absent, progress, offline, forgiven, unsound, ended,
-- granted. Errors: none; an unsound report sets its slot offline.
function_of('observe', frame.writer(function(c, args) registration.observe(c, args[1]) end), 'allow-oom')

-- ARGV: slot, its generation, model, why, generation key, then models to evict. Reply: nil.
-- Events: loading; of the evicted ones unloading. Errors: STALE, BAD_ARGUMENT.
function_of('want', frame.writer(function(c, args)
  local evict = {}
  for i = 6, #args do evict[#evict + 1] = args[i] end
  orders.want(c, decision(c, args), whole(args[2]), args[5], evict)
end))

-- ARGV: slot, its generation, model, why. Reply: nil. Events: unloading, ended. Errors: STALE, BAD_ARGUMENT.
function_of('unwant', frame.writer(function(c, args)
  orders.unwant(c, decision(c, args), whole(args[2]))
end), 'allow-oom')

-- ARGV: slot, the residency's generation, model, why, arrival number. Reply: nil. Events: admitted, granted.
-- Errors: STALE, BAD_ARGUMENT.
function_of('admit', frame.writer(function(c, args)
  orders.admit(c, decision(c, args), whole(args[2]), args[5])
end), 'allow-oom')

-- ARGV: slot, the residency's generation, model, who, why. Reply: nil. Events: doubted. Errors: STALE.
function_of('doubt', frame.writer(function(c, args)
  orders.doubt(c, {slot = args[1], model = args[3], who = args[4], why = args[5]}, whole(args[2]))
end), 'allow-oom')

-- ARGV: model, why it is taken out of service (empty: it is put back), who. Reply: nil. Events: model, ended.
-- Errors: UNKNOWN_MODEL.
function_of('model_state', frame.writer(function(c, args)
  machine.set_model(c, args[1], args[2], args[3])
end), 'allow-oom')

-- ARGV: slot, `cordon`, `drain`, `uncordon` or `heal`, who. Reply: nil. Events: slot, granted. Errors: BAD_ARGUMENT.
function_of('slot_state', frame.writer(function(c, args)
  registration.set_slot(c, args[1], args[2], args[3])
end), 'allow-oom')

-- ARGV: entry id, session hash, sequence number or empty, who, `acquire`, `renew`, `release` or `none`, the words of
-- that. Reply: the lease; nil where there is none. Events and errors: those of the call.
function_of('ingest', frame.writer(function(c, args)
  local lease = machine.ingest(c, args)
  return lease and views.lease_json(c, lease)
end))

-- ARGV: entry id, why. Reply: nil. Events: ingress_rejected. Errors: none.
function_of('reject', frame.writer(function(c, args) machine.reject_ingress(c, args[1], args[2]) end), 'allow-oom')

-- ARGV: most entries, most bytes, most bytes of one. Reply: entries, of one that is too large its size. Errors: none.
function_of('ingress', frame.reader(function(c, args)
  return mail.entries(c, math.min(whole(args[1]), POOL.CHECKED), whole(args[2]), whole(args[3]))
end), 'no-writes')

-- ARGV: none. Reply: slots that rang lately, also in a store that was emptied: from them it is made again. Errors:
-- none.
function_of('rang', function(keys) return mail.rang({P = keys[1]}) end, 'no-writes')

-- ARGV: `ingress` or `bell`. Reply: 1 where it was begun anew, else 0. Events: stream_renewed. Errors: BAD_ARGUMENT.
function_of('renew_stream', frame.writer(function(c, args) return mail.renew(c, args[1]) end), 'allow-oom')

-- ARGV: day, source, number of the batch, how long it is kept in ms, then of each count its field and what to add.
-- Reply: nil. Events: none. Errors: none.
function_of('add_day', frame.writer(days.add))

-- ARGV: day. Reply: its fields and counts. Errors: none.
function_of('day', frame.reader(days.read), 'no-writes')

-- ARGV: idle time in ms, most marks, the process that knows, the incarnation in which it told, then of each name of the
-- session its mark and the crowd's. Reply: the incarnation. Events: none. Errors: none.
function_of('mark_private', frame.writer(egress.mark_private))

-- ARGV: idle time in ms, most marks, then of each mark itself, the crowd's, and its age in ms. Reply: the incarnation.
-- Events: none. Errors: none.
function_of('mark_again', frame.writer(egress.mark_again))

-- ARGV: process, the incarnation in which it told, idle time in ms, then others that it knows of. Reply: the
-- incarnation, then of each witness its name and whether it told (1, 0). Events: none. Errors: none.
function_of('witness', frame.writer(egress.witness))

-- ARGV: process, the incarnation in which it told. Reply: nil. Events: none. Errors: none.
function_of('bow_out', frame.writer(function(c, args) egress.bow_out(c, args[1], args[2]) end), 'allow-oom')

-- ARGV: idle time in ms, then marks of the session. Reply: `private`, `clear` or `unsettled`, the incarnation, its age
-- in ms. Errors: none.
function_of('is_private', frame.reader(egress.is_private), 'no-writes')

-- ARGV: micro-units, how long they are kept in ms, then of each account its period, whose it is, its limit or empty.
-- Reply: 1; 0 where a limit is in the way, and nothing was booked. Events: none. Errors: none.
function_of('spend', frame.writer(egress.spend))

-- ARGV: of each account its period and whose it is. Reply: micro-units of each. Errors: none.
function_of('spent', frame.reader(egress.spent), 'no-writes')

-- ARGV: none. Reply: JSON for the policy. Errors: none.
function_of('snapshot', frame.reader(views.snapshot), 'no-writes')

-- ARGV: lease id. Reply: the lease. Errors: NOT_FOUND.
function_of('lease', frame.reader(function(c, args)
  return views.lease_json(c, rows.known_lease(c, args[1]))
end), 'no-writes')

-- ARGV: how many at most, model or empty, then API keys, if it is only of those. Reply: a list of leases. Errors: none.
function_of('leases', frame.reader(function(c, args)
  local limit, model = math.min(whole(args[1]), POOL.CHECKED), args[2] or ''
  if args[3] then return views.leases_of(c, {unpack(args, 3)}, model, limit) end
  return views.live_leases(c, model ~= '' and {model} or views.models_of(c), limit)
end), 'no-writes')

-- ARGV: none. Reply: lines of the table for people. Errors: none.
function_of('ps', frame.reader(ps.table), 'no-writes')

-- ARGV: lease id. Reply: JSON of the lease, those ahead of it, the bound of its class. Errors: NOT_FOUND.
function_of('why', frame.reader(function(c, args) return views.why(c, args[1]) end), 'no-writes')

-- ARGV: none. Reply: JSON of broken invariants. Errors: none.
function_of('check', frame.reader(check.check), 'no-writes')

end
