-- What happened, as entries of the stream of events. Twin of broker/pool/records/events.py.
local events = {}
do

function events.emit(c, kind, fields)
  c.seq = c.seq + 1
  local kept = 0 -- words moved together over the empty ones
  for i = 1, #fields, 2 do
    local value = fields[i + 1]
    if value ~= '' then
      fields[kept + 1], fields[kept + 2] = fields[i], value
      kept = kept + 2
    end
  end
  redis.call('XADD', c.P .. ':events', 'MAXLEN', '~', POOL.EVENTS_KEPT, '*', 'seq', c.seq, 'type', kind, 't', c.now,
    unpack(fields, 1, kept))
end

function events.gen_of(row)
  if not row.gen or row.gen == '0' then return '' end
  return row.gen
end

-- In one pass: nearly every call has one, so no list is built to be sifted.
function events.emit_lease(c, kind, lease, who, from, why)
  local words, last = {nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil}, 0
  local told = LEASE.EVENT_WORDS
  for i = 1, #told, 2 do
    local value = lease[told[i + 1]]
    if value and value ~= '' and value ~= '0' then
      words[last + 1], words[last + 2] = told[i], value
      last = last + 2
    end
  end
  words[last + 1], words[last + 2] = 'who', who
  last = last + 2
  if why ~= '' then
    words[last + 1], words[last + 2] = 'why', why
    last = last + 2
  end
  if from ~= '' then
    words[last + 1], words[last + 2] = 'from', from
    last = last + 2
  end
  words[last + 1], words[last + 2] = 'to', lease.state
  c.seq = c.seq + 1
  redis.call('XADD', c.P .. ':events', 'MAXLEN', '~', POOL.EVENTS_KEPT, '*', 'seq', c.seq, 'type', kind, 't', c.now,
    unpack(words, 1, last + 2))
end

end
