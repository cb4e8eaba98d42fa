-- The functions, by the names and arguments that `broker/store/redis/store.py` uses. `base`, the only key, is
-- `hotseat:{<pool>}`; what is in brackets may be left out, what stands behind `then` may be there any number of times.
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

-- KEYS: base. ARGV: none. Reply: JSON of version, hash, schema, and whether the pool is initialised. Events: none.
-- Errors: none.
function_of('hello', function(keys)
  local ready = redis.call('EXISTS', keys[1] .. ':meta') == 1
  return cjson.encode({version = VERSION, hash = HASH, schema = SCHEMA, initialised = ready and '1' or '0'})
end, 'no-writes')

-- KEYS: base. ARGV: settings, then of each setting its name and value, then of each model POOL.SPEC_FIELDS. Reply:
-- nil. Events: initialised. Errors: BAD_ARGUMENT. The first argument says how many settings follow.
local update = frame.writer(machine.init)
function_of('init', function(keys, args)
  local c = machine.create(keys)
  if c == nil then return update(keys, args) end
  local ok, problem = pcall(machine.init, c, args)
  frame.close(c)
  if not ok then return frame.failure(problem) end
end)

-- KEYS: base. ARGV: LEASE.ask. Reply: the lease. Events: queued, granted, renewed. Errors: BAD_ARGUMENT, OP_MISMATCH,
-- LIFE_ENDED, UNKNOWN_MODEL, MODEL_OFF, MODEL_TOO_LARGE, LOAD_FAILED, MODEL_QUARANTINED, MODEL_NOT_WARM, TENANT_FULL,
-- QUEUE_FULL, SESSION_QUEUE_FULL.
function_of('acquire', frame.writer(function(c, args)
  return views.lease_json(c, acquire.acquire(c, acquire.ask_of(args, 1)))
end))

-- KEYS: base. ARGV: lease_id, waiter_ttl_ms. Reply: the lease. Events: renewed (claimed). Errors: NOT_FOUND,
-- BAD_ARGUMENT.
function_of('poll', frame.writer(function(c, args)
  return views.lease_json(c, lifecycle.poll(c, args[1], whole(args[2])))
end), 'allow-oom')

-- KEYS: base. ARGV: lease_id, nonce, ttl_ms, who. Reply: the lease. Events: renewed. Errors: NOT_FOUND, STALE_NONCE,
-- LEASE_ENDED, BAD_ARGUMENT.
function_of('renew', frame.writer(function(c, args)
  return views.lease_json(c, lifecycle.renew(c, args[1], args[2], whole(args[3]), args[4]))
end), 'allow-oom')

-- KEYS: base. ARGV: lease_id, nonce, who, [quiet]. Reply: the lease; nil where the last word is `quiet`, for who
-- gives back does not look at it, and to write it takes a tenth of the call. Events: ended, granted. Errors:
-- NOT_FOUND, STALE_NONCE.
function_of('release', frame.writer(function(c, args)
  local lease = lifecycle.release(c, args[1], args[2], args[3])
  return args[4] ~= 'quiet' and views.lease_json(c, lease) or nil
end), 'allow-oom')

-- KEYS: base. ARGV: lease_id, nonce, life, back_ms, kept_ms. Reply: nil. Events: none. Errors: NOT_FOUND,
-- STALE_NONCE, BAD_ARGUMENT. It is expected back within back_ms; its place is kept for kept_ms after that.
function_of('send_away', frame.writer(function(c, args)
  broker_lives.send_away(c, args[1], args[2], args[3], whole(args[4]), whole(args[5]))
end), 'allow-oom')

-- KEYS: base. ARGV: life. Reply: nil. Events: broker; of the lives before it ended, granted. Errors: BAD_ARGUMENT,
-- LIFE_ENDED. Brokers must be able to say that they live, and to be buried, also in a full store.
function_of('begin_life', frame.writer(function(c, args) broker_lives.begin(c, args[1]) end), 'allow-oom')

-- KEYS: base. ARGV: life. Reply: nil. Events: broker. Errors: BAD_ARGUMENT, LIFE_ENDED.
function_of('rejoin', frame.writer(function(c, args) broker_lives.rejoin(c, args[1]) end), 'allow-oom')

-- KEYS: base. ARGV: life. Reply: nil. Events: none. Errors: LIFE_ENDED.
function_of('beat', frame.writer(function(c, args) broker_lives.beat(c, args[1]) end), 'allow-oom')

-- KEYS: base. ARGV: life. Reply: nil. Events: broker, ended, granted. Errors: none.
function_of('end_life', frame.writer(function(c, args) broker_lives.finish(c, args[1]) end), 'allow-oom')

-- KEYS: base. ARGV: lease_id, who, why. Reply: the lease. Events: ended, granted. Errors: NOT_FOUND.
function_of('end', frame.writer(function(c, args)
  return views.lease_json(c, lifecycle.finish(c, rows.known_lease(c, args[1]), 'revoke', args[2], args[3]))
end), 'allow-oom')

-- KEYS: base. ARGV: lease_id, grace_ms, why. Reply: nil. Events: ending. Errors: NOT_FOUND, STALE, BAD_ARGUMENT.
function_of('preempt', frame.writer(function(c, args)
  lifecycle.preempt(c, args[1], whole(args[2]), args[3])
end), 'allow-oom')

-- KEYS: base. ARGV: none. Reply: ms until the next deadline, empty where there is none. Events: ended, granted,
-- broker, offline. Errors: none.
function_of('tick', frame.writer(function(c) return machine.tick(c) end), 'allow-oom')

-- KEYS: base. ARGV: slot. Reply: nil. Events: slot, registered, loading … absent, progress, offline, forgiven,
-- unsound, ended, granted. Errors: none; an unsound report sets its slot offline.
function_of('observe', frame.writer(function(c, args) registration.observe(c, args[1]) end), 'allow-oom')

-- KEYS: base. ARGV: slot, slot_gen, model, why, key, depth, then models to evict. Reply: nil. Events: loading; of the
-- evicted ones unloading. Errors: STALE, BAD_ARGUMENT. The slot has the generation slot_gen in the picture that was
-- decided on; `key` is the generation key.
function_of('want', frame.writer(function(c, args)
  local evict = {}
  for i = 7, #args do evict[#evict + 1] = args[i] end
  orders.want(c, decision(c, args), whole(args[2]), args[5], args[6] or '', evict)
end))

-- KEYS: base. ARGV: slot, slot_gen, model, why. Reply: nil. Events: unloading, ended. Errors: STALE, BAD_ARGUMENT.
function_of('unwant', frame.writer(function(c, args)
  orders.unwant(c, decision(c, args), whole(args[2]))
end), 'allow-oom')

-- KEYS: base. ARGV: slot, gen, model, why, arrival. Reply: nil. Events: admitted, granted. Errors: STALE,
-- BAD_ARGUMENT. `gen` is the residency's generation; whoever arrived before `arrival` is admitted.
function_of('admit', frame.writer(function(c, args)
  orders.admit(c, decision(c, args), whole(args[2]), args[5])
end), 'allow-oom')

-- KEYS: base. ARGV: slot, gen, model, who, why. Reply: nil. Events: doubted. Errors: STALE. `gen` is the residency's
-- generation.
function_of('doubt', frame.writer(function(c, args)
  orders.doubt(c, {slot = args[1], model = args[3], who = args[4], why = args[5]}, whole(args[2]))
end), 'allow-oom')

-- KEYS: base. ARGV: model, off, who. Reply: nil. Events: model, ended. Errors: UNKNOWN_MODEL. `off` says why it is
-- taken out of service; empty, it is put back.
function_of('model_state', frame.writer(function(c, args)
  machine.set_model(c, args[1], args[2], args[3])
end), 'allow-oom')

-- KEYS: base. ARGV: slot, event, who. Reply: nil. Events: slot, granted. Errors: BAD_ARGUMENT. The event is `cordon`,
-- `drain`, `uncordon` or `heal`.
function_of('slot_state', frame.writer(function(c, args)
  registration.set_slot(c, args[1], args[2], args[3])
end), 'allow-oom')

-- KEYS: base. ARGV: entry_id, sh, sequence, who, effect, then the words of the effect. Reply: the lease; nil where
-- there is none. Events: those of the call. Errors: those of the call. The effect is `acquire`, `renew`, `release` or
-- `none`; `sh` is the hash of the session, whose sequence may be empty.
function_of('ingest', frame.writer(function(c, args)
  local lease = machine.ingest(c, args)
  return lease and views.lease_json(c, lease)
end))

-- KEYS: base. ARGV: entry_id, why. Reply: nil. Events: ingress_rejected. Errors: none.
function_of('reject', frame.writer(function(c, args) machine.reject_ingress(c, args[1], args[2]) end), 'allow-oom')

-- KEYS: base. ARGV: most, most_bytes, most_bytes_of_one. Reply: entries, of one that is too large its size. Events:
-- none. Errors: none.
function_of('ingress', frame.reader(function(c, args)
  return mail.entries(c, math.min(whole(args[1]), POOL.CHECKED), whole(args[2]), whole(args[3]))
end), 'no-writes')

-- KEYS: base. ARGV: none. Reply: slots that rang lately, also in a store that was emptied: from them it is made
-- again. Events: none. Errors: none.
function_of('rang', function(keys) return mail.rang({P = keys[1]}) end, 'no-writes')

-- KEYS: base. ARGV: stream. Reply: 1 where it was begun anew, else 0. Events: stream_renewed. Errors: BAD_ARGUMENT.
-- The stream is `ingress` or `bell`.
function_of('renew_stream', frame.writer(function(c, args) return mail.renew(c, args[1]) end), 'allow-oom')

-- KEYS: base. ARGV: day, source, number, kept_ms, then of each count its field and what to add. Reply: nil. Events:
-- none. Errors: none. `number` is that of the batch: an older one was added already.
function_of('add_day', frame.writer(days.add))

-- KEYS: base. ARGV: day. Reply: its fields and counts. Events: none. Errors: none.
function_of('day', frame.reader(days.read), 'no-writes')

-- KEYS: base. ARGV: idle_ms, limit, process, told, then of each name of the session its mark and the crowd's. Reply:
-- the incarnation. Events: none. Errors: none. `told` is the incarnation in which the process has told what it knows;
-- there are `limit` marks at most.
function_of('mark_private', frame.writer(egress.mark_private))

-- KEYS: base. ARGV: idle_ms, limit, then of each mark itself, the crowd's, and its age in ms. Reply: the incarnation.
-- Events: none. Errors: none.
function_of('mark_again', frame.writer(egress.mark_again))

-- KEYS: base. ARGV: process, told, idle_ms, then others that it knows of. Reply: the incarnation, then of each
-- witness its name and whether it told (1, 0). Events: none. Errors: none. `told` is the incarnation in which it
-- told.
function_of('witness', frame.writer(egress.witness))

-- KEYS: base. ARGV: process, told. Reply: nil. Events: none. Errors: none. `told` is the incarnation in which it
-- told.
function_of('bow_out', frame.writer(function(c, args) egress.bow_out(c, args[1], args[2]) end), 'allow-oom')

-- KEYS: base. ARGV: idle_ms, then marks of the session. Reply: `private`, `clear` or `unsettled`, the incarnation,
-- its age in ms. Events: none. Errors: none.
function_of('is_private', frame.reader(egress.is_private), 'no-writes')

-- KEYS: base. ARGV: micro, kept_ms, then of each account its period, whose it is, its limit or empty. Reply: 1; 0
-- where a limit is in the way, and nothing was booked. Events: none. Errors: none.
function_of('spend', frame.writer(egress.spend))

-- KEYS: base. ARGV: none, then of each account its period and whose it is. Reply: micro-units of each. Events: none.
-- Errors: none.
function_of('spent', frame.reader(egress.spent), 'no-writes')

-- KEYS: base. ARGV: none. Reply: JSON for the policy. Events: none. Errors: none.
function_of('snapshot', frame.reader(views.snapshot), 'no-writes')

-- KEYS: base. ARGV: lease_id. Reply: the lease. Events: none. Errors: NOT_FOUND.
function_of('lease', frame.reader(function(c, args)
  return views.lease_json(c, rows.known_lease(c, args[1]))
end), 'no-writes')

-- KEYS: base. ARGV: limit, model (or empty), then API keys where it is only of those. Reply: a list of leases. Events: none.
-- Errors: none.
function_of('leases', frame.reader(function(c, args)
  local limit, model = math.min(whole(args[1]), POOL.CHECKED), args[2] or ''
  if args[3] then return views.leases_of(c, {unpack(args, 3)}, model, limit) end
  return views.live_leases(c, model ~= '' and {model} or views.models_of(c), limit)
end), 'no-writes')

-- KEYS: base. ARGV: none. Reply: lines of the table for people. Events: none. Errors: none.
function_of('ps', frame.reader(ps.table), 'no-writes')

-- KEYS: base. ARGV: lease_id. Reply: JSON of the lease, those ahead of it, the bound of its class. Events: none.
-- Errors: NOT_FOUND.
function_of('why', frame.reader(function(c, args) return views.why(c, args[1]) end), 'no-writes')

-- KEYS: base. ARGV: none. Reply: JSON of broken invariants. Events: none. Errors: none.
function_of('check', frame.reader(check.check), 'no-writes')

end
