-- Lists some records of a slot of one tag, without their values.
--
-- KEYS[1]  the tag's head: a hash of `incarnation`, `sequence` and `life`
-- ARGV[1]  the incarnation the caller knows
-- ARGV[2]  the life of the server the caller believes to speak with
-- ARGV[3]  msgpack: {pattern of the keys of hashes, limit, cursor of the keys ("" behind the last), keys not yet done,
--          cursor within the first of them}
--
-- Returns {seconds, microseconds, sequence, {cursor of the keys, keys not yet done, cursor within the first, hashes}},
-- where a hash is {key, field, bytes, number, …}; or what `commit.lua` says of another incarnation or life. Of a log
-- the number is the position of its first entry, and its bytes and its count of entries come in one: "<bytes>:<count>".

local call = redis.call
local head = call('HMGET', KEYS[1], 'incarnation', 'sequence', 'life')
if head[1] ~= ARGV[1] then
  return {'WIPED', head[1] or ''}
elseif head[3] ~= ARGV[2] then
  return {'LIFE'}
end

local KEYS_AT_ONCE, MOST_STEPS, SAMPLE = 100, 50, 50
local asked = cmsgpack.unpack(ARGV[3])
local pattern, limit, cursor, pending, within = asked[1], asked[2], asked[3], asked[4], asked[5]

local function text_sum(entries)
  local sum = 0
  for k = 1, #entries do
    sum = sum + #entries[k]
  end
  return sum
end

local function log_size(list)
  local count = call('LLEN', list)
  if count <= 2 * SAMPLE then
    return text_sum(call('LRANGE', list, 0, -1)), count
  end
  local some = text_sum(call('LRANGE', list, 0, SAMPLE - 1)) + text_sum(call('LRANGE', list, -SAMPLE, -1))
  return math.floor(some * count / (2 * SAMPLE)), count
end

-- The key of a hash is "<base>r:<slot>:<partition>", that of a list "<base>l:<slot>:<characters>:<partition>:<name>".
local base = string.match(KEYS[1], '^(.*)head$')
local function list_key(key, field)
  local slot, partition = string.match(string.sub(key, #base + 1), '^r:(%-?%d+):(.*)$')
  local _, continuing = string.gsub(partition, '[\128-\191]', '')
  return base .. 'l:' .. slot .. ':' .. (#partition - continuing) .. ':' .. partition .. ':' .. string.sub(field, 2)
end

local hashes, found, steps = {}, 0, 0
while found < limit do
  if #pending == 0 then
    if cursor == '' or steps == MOST_STEPS then
      break
    end
    local page = call('SCAN', cursor, 'MATCH', pattern, 'COUNT', KEYS_AT_ONCE)
    cursor, pending, within = page[1] ~= '0' and page[1] or '', page[2], '0'
    steps = steps + 1
  else
    local key = pending[1]
    local page = call('HSCAN', key, within, 'COUNT', math.min(limit, 1000))
    local records = {key}
    for k = 1, #page[2], 2 do
      local field, value = page[2][k], page[2][k + 1]
      local kind, size, number = string.byte(field), 8, value
      if kind == 99 then
        local at = string.find(value, ':', 1, true)
        size, number = #value - at, string.sub(value, 1, at - 1)
      elseif kind == 108 then
        local bytes, count = log_size(list_key(key, field))
        size = string.format('%.0f:%.0f', bytes, count)
      end
      local n = #records
      records[n + 1], records[n + 2], records[n + 3] = field, size, number
      found = found + 1
    end
    if #records > 1 then
      hashes[#hashes + 1] = records
    end
    within = page[1]
    if within == '0' then
      table.remove(pending, 1)
    end
  end
end
local now = call('TIME')
return {tonumber(now[1]), tonumber(now[2]), tonumber(head[2] or 0), {cursor, pending, within, hashes}}
