-- A worker's report as it lies in the store: believed only when every field of it is sound.
-- Twin of broker/pool/slots/reports.py, whose tables say what each field must be.
local reports = {}
do

local NAME_PATTERN = '^[A-Za-z0-9][A-Za-z0-9._:/@-]*$'

function reports.is_name(text) return #text <= REPORTS.TOKEN and string.find(text, NAME_PATTERN) ~= nil end

-- What follows the first byte of a character: how many bytes, and the bounds of the first of them.
local function tail_of(first)
  if first < 128 then return 0 end
  if first < 194 or first > 244 then return nil end
  if first < 224 then return 1, 128, 191 end
  if first < 240 then return 2, first == 224 and 160 or 128, first == 237 and 159 or 191 end
  return 3, first == 240 and 144 or 128, first == 244 and 143 or 191
end

local function is_utf8(text)
  if not string.find(text, '[\128-\255]') then return true end
  local at = 1
  while at <= #text do
    local more, low, high = tail_of(string.byte(text, at))
    if more == nil then return false end
    for next_at = at + 1, at + more do
      local byte = string.byte(text, next_at)
      if byte == nil or byte < low or byte > high then return false end
      low, high = 128, 191
    end
    at = at + more + 1
  end
  return true
end

local function are_names(text)
  if string.find(text, '[^ -~]') then return false end
  for word in string.gmatch(text, '[^ ]+') do
    if not reports.is_name(word) then return false end
  end
  return true
end

local function is_percent(text)
  return text == '' or text == '-1' or (#text <= 16 and string.find(text, '^[0-9]+$') ~= nil and whole(text) <= 100)
end

local SOUND = {
  percent = is_percent,
  id = function(text) return string.find(text, '^[!-~]+$') ~= nil end,
  token = function(text) return string.find(text, '^[!-~]*$') ~= nil end,
  text = is_utf8,
  names = are_names,
  url = function(text) return text == '' or string.find(text, '^https?://[!-~]+$') ~= nil end,
  state = function(text) return REPORTS.STATES[text] ~= nil end,
}

local function is_sound(kind, most, text)
  if kind ~= 'number' then return #text <= most and SOUND[kind](text) end
  return #text <= 16 and string.find(text, '^[0-9]*$') ~= nil and whole(text) <= most
end

-- One field, if there is one; what is too long is not fetched. The reason, where it is not sound.
local function read_field(report, key, name, kind, most)
  local size = redis.call('HSTRLEN', key, name)
  if size > math.max(most, 16) then return name .. ' ' .. string.format(REPORTS.EXPECTED[kind], most) end
  local value = redis.call('HGET', key, name)
  if not is_sound(kind, most, value or (kind == 'state' and 'absent' or '')) then
    return name .. ' ' .. string.format(REPORTS.EXPECTED[kind], most)
  end
  -- for people: what would steer a terminal is a blank
  if kind == 'text' and value then
    value = string.gsub(string.gsub(value, '[%z\1-\8\11-\31\127]', ' '), '\194[\128-\159]', ' ')
  end
  report[name] = value or nil
  return nil
end

local function models_of(c, slot)
  local models = words(slot.models)
  local listed_ones = {}
  for _, model in ipairs(models) do listed_ones[model] = true end
  for _, model in ipairs(redis.call('SMEMBERS', c.P .. ':models')) do
    if not listed_ones[model] then models[#models + 1] = model end
  end
  return sorted(models)
end

local function read_fields(c, key, slot, report)
  local why
  for _, field in ipairs(REPORTS.FIELDS) do
    why = read_field(report, key, field[1], field[2], field[3])
    if why then return why end
  end
  for _, model in ipairs(models_of(c, slot)) do
    for _, field in ipairs(REPORTS.MODEL_FIELDS) do
      why = read_field(report, key, field[1] .. ':' .. model, field[2], field[3])
      if why then return why end
    end
  end
  for _, leap in ipairs(REPORTS.LEAPS) do
    if whole(report[leap[1]]) > int(slot[leap[2]]) + REPORTS.LEAP then
      return leap[1] .. ' must be at most ' .. s(REPORTS.LEAP) .. " above the store's own"
    end
  end
  return nil
end

-- The fields that we know; with them, where the report is not to be believed, the reason.
function reports.read(c, name, slot, kind)
  local key, report = c.P .. ':report:' .. name, {}
  if kind ~= 'hash' then return {boot = '', home = ''}, 'it is a ' .. kind .. ', not a hash' end
  local why = read_fields(c, key, slot, report)
  if why then -- whose it is decides whether it harms the slot
    report = {}
    read_field(report, key, 'boot', 'token', REPORTS.TOKEN)
    read_field(report, key, 'home', 'token', REPORTS.TOKEN)
  end
  report.boot, report.inc, report.home = report.boot or '', report.inc or '', report.home or ''
  return report, why
end

end
