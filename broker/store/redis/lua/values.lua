-- Numbers and lists as text, and a refusal: what every file says all the time. These few functions are names of the
-- chunk; whatever else a file offers is in the table that bears its name.

local function s(number) return string.format('%.0f', number) end

-- A number of ours; nothing is 0.
local function int(text) return tonumber(text) or 0 end

-- A number of somebody else's: a whole one, 0 for nonsense.
local function whole(text)
  local number = tonumber(text)
  if number == nil or number ~= number then return 0 end
  return math.floor(number)
end

local function refuse(code, message) error({code = code, message = message}) end

-- Byte order, whatever the server's locale says.
local function bytewise(a, b)
  for i = 1, math.min(#a, #b) do
    local x, y = string.byte(a, i), string.byte(b, i)
    if x ~= y then return x < y end
  end
  return #a < #b
end

local function words(text)
  local list = {}
  for word in string.gmatch(text or '', '%S+') do list[#list + 1] = word end
  return list
end

local function sorted(list)
  table.sort(list, bytewise)
  return list
end

local function has(list, wanted)
  for _, word in ipairs(list) do
    if word == wanted then return true end
  end
  return false
end

-- `text` with `word` in it or not, sorted.
local function listed(text, word, here)
  local list = {}
  for _, other in ipairs(words(text)) do
    if other ~= word then list[#list + 1] = other end
  end
  if here then list[#list + 1] = word end
  return table.concat(sorted(list), ' ')
end
