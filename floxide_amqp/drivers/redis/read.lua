-- Reads one tag: any number of reads, all as of one moment.
--
-- KEYS[1]  the tag's head: a hash of `incarnation`, `sequence` and `life`
-- ARGV[1]  the incarnation the caller knows
-- ARGV[2]  the life of the server the caller believes to speak with
-- ARGV[3]  msgpack: for each read {hashes, logs, indexes}
--          a hash:   {key, field, …}
--          a log:    {hash, field, list, start, limit}
--          an index: {ordered set, values, least member, greatest member, slot ("" for all), limit, is reversed}
--
-- Returns {seconds, microseconds, sequence, answers}, or {"WIPED", found}, or {"LIFE"} where the server is another. An answer is {values of each hash, logs as
-- {first, length, entries}, indexes as {member, value, …}}.

local call = redis.call
local head = call('HMGET', KEYS[1], 'incarnation', 'sequence', 'life')
if head[1] ~= ARGV[1] then
  return {'WIPED', head[1] or ''}
elseif head[3] ~= ARGV[2] then
  return {'LIFE'}
end

local CHUNK = 2000

local function hash_values(key, names, from)
  local values = {}
  for start = from, #names, CHUNK do
    local found = call('HMGET', key, unpack(names, start, math.min(start + CHUNK - 1, #names)))
    for k = 1, #found do
      values[#values + 1] = found[k]
    end
  end
  return values
end

local function page(hash, field, list, start, limit)
  local base = call('HGET', hash, field)
  if not base then
    return {math.max(start, 0), 0, {}}
  end
  base = tonumber(base)
  local length = base + call('LLEN', list)
  local first = math.max(start, base)
  if limit <= 0 or first >= length then
    return {first, length, {}}
  end
  local entries = call('LRANGE', list, string.format('%.0f', first - base), string.format('%.0f', first - base + limit - 1))
  return {first, length, entries}
end

local function members_of(set, least, greatest, slot, limit, reverse)
  local found = {}
  local width = #slot
  local step = width == 0 and limit or math.max(limit, 100)
  while #found < limit do
    local part
    if reverse then
      part = call('ZREVRANGEBYLEX', set, greatest, least, 'LIMIT', 0, step)
    else
      part = call('ZRANGEBYLEX', set, least, greatest, 'LIMIT', 0, step)
    end
    for k = 1, #part do
      if #found < limit and (width == 0 or string.sub(part[k], -width) == slot) then
        found[#found + 1] = part[k]
      end
    end
    if #part < step then
      break
    end
    if reverse then
      greatest = '(' .. part[#part]
    else
      least = '(' .. part[#part]
    end
  end
  return found
end

local reads = cmsgpack.unpack(ARGV[3])
local answers = {}
for r = 1, #reads do
  local read = reads[r]
  local hashes, logs, indexes = {}, {}, {}
  for k = 1, #read[1] do
    hashes[k] = hash_values(read[1][k][1], read[1][k], 2)
  end
  for k = 1, #read[2] do
    local asked = read[2][k]
    logs[k] = page(asked[1], asked[2], asked[3], asked[4], asked[5])
  end
  for k = 1, #read[3] do
    local asked = read[3][k]
    local members = members_of(asked[1], asked[3], asked[4], asked[5], asked[6], asked[7])
    local values = hash_values(asked[2], members, 1)
    local both = {}
    for m = 1, #members do
      both[2 * m - 1], both[2 * m] = members[m], values[m]
    end
    indexes[k] = both
  end
  answers[r] = {hashes, logs, indexes}
end
local now = call('TIME')
return {tonumber(now[1]), tonumber(now[2]), tonumber(head[2] or 0), answers}
