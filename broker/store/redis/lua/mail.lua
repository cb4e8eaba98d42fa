-- The streams that others write to: the ingress and the bell. Twin of broker/store/memory/mail.py.
local mail = {}
do

local LAST_ID = '18446744073709551615' -- the highest that a stream can give
mail.REJECTED_WORDS = 128

function mail.done(c, id) redis.call('XDEL', c.P .. ':ingress', id) end

function mail.entry(c, id)
  return redis.call('XRANGE', c.P .. ':ingress', id, id)[1]
end

function mail.bytes_of(words)
  local size = 0
  for _, word in ipairs(words) do size = size + #word end
  return size
end

-- Entries that wait, the oldest first: as many as fit. Instead of the fields of one that is too large its size is told.
function mail.entries(c, most, most_bytes, most_bytes_of_one)
  local found, from, bytes = {}, '-', 0
  while #found < most and bytes < most_bytes do
    local entry = redis.call('XRANGE', c.P .. ':ingress', from, '+', 'COUNT', 1)[1]
    if entry == nil then break end
    local size = mail.bytes_of(entry[2])
    found[#found + 1] = size > most_bytes_of_one and {entry[1], size} or entry
    bytes, from = bytes + size, '(' .. entry[1]
    if entry[1] == LAST_ID .. '-' .. LAST_ID then break end -- nothing can be after it
  end
  return found
end

-- Slots that rang lately. A page at a time: an entry may be of any size.
function mail.rang(c)
  local seen, names, from = {}, {}, '+'
  for _ = 1, 100 do
    local page = redis.call('XREVRANGE', c.P .. ':bell', from, '-', 'COUNT', 10)
    for _, entry in ipairs(page) do
      for i = 1, #entry[2], 2 do
        local name = entry[2][i + 1]
        if entry[2][i] == 'slot' and #name <= 128 and not seen[name] then
          seen[name], names[#names + 1] = true, name
        end
      end
    end
    if #page == 0 then break end
    from = '(' .. page[#page][1]
  end
  return names
end

-- Whoever may add to a stream may also give it the last id there is; after that nobody can. It begins anew then, the
-- ingress as soon as all of it is carried out. Args: name.
function mail.renew(c, name)
  if name ~= 'ingress' and name ~= 'bell' then refuse('BAD_ARGUMENT', 'unknown stream ' .. name) end
  local key = c.P .. ':' .. name
  if redis.call('EXISTS', key) == 0 then return 0 end
  local facts, last = redis.call('XINFO', 'STREAM', key), ''
  for i = 1, #facts, 2 do
    if facts[i] == 'last-generated-id' then last = facts[i + 1] end
  end
  if string.sub(last, 1, #LAST_ID) ~= LAST_ID then return 0 end
  if name == 'ingress' and redis.call('XLEN', key) > 0 then return 0 end
  redis.call('DEL', key)
  events.emit(c, 'stream_renewed', {'who', 'scheduler', 'why', name .. ' had no ids left'})
  return 1
end

end
