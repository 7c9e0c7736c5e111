-- Applies a group of batches to one tag: loads what they ask about, evaluates them in order, then writes.
--
-- Nothing is written before every batch has been evaluated, so a faulty group leaves no trace. And every key is looked at
-- before the first is written: one of another type, or one that a cluster is moving to another node, is an error that
-- comes in time. A record is one field of
-- its partition's hash: "c" .. name is a cell ("<version>:<value>"), "n" .. name a counter, "l" .. name a log (the
-- position of the first entry its list still holds). Lua numbers are doubles: a counter of 2^53 or more is the text
-- "<high>:<low>", two parts of 32 bits, in the arguments, in here and in the store.
--
-- KEYS[1]  the tag's head: a hash of `incarnation`, `sequence` and `life`
-- ARGV[1]  the incarnation the caller knows
-- ARGV[2]  the life of the server the caller believes to speak with
-- ARGV[3]  "apply", or "try" to evaluate only
-- ARGV[4]  msgpack: {hashes, homes, fields, lists, indexes, entry homes, entries, batches}; records and entries are
--          numbered in the order of `homes` and `entry homes`, and batches name them by their numbers
--
-- Returns {seconds, microseconds, sequence, outcomes}, or {"WIPED", found}, or {"LIFE"} where the server is another, or {"OVERFLOW", batch, record}. An outcome
-- is the number of the check that failed, or {count of positions, log, position, …, counter, value, …, cleared}.
-- Batches and checks are numbered from 1.

local call = redis.call
local head = call('HMGET', KEYS[1], 'incarnation', 'sequence', 'life')
if head[1] ~= ARGV[1] then
  return {'WIPED', head[1] or ''}
elseif head[3] ~= ARGV[2] then
  return {'LIFE'}
end

local CHUNK = 2000
local EXACT, LOW, HIGH = 9007199254740992, 4294967296, 2147483648
local group = cmsgpack.unpack(ARGV[4])
local hashes, homes, fields, lists = group[1], group[2], group[3], group[4]
local indexes, entry_homes, entries, batches = group[5], group[6], group[7], group[8]
local count = #homes

-- Loading ------------------------------------------------------------------------------------------------------------

local raw = {}
do
  local asked, who = {}, {}
  for h = 1, #hashes do
    asked[h], who[h] = {}, {}
  end
  for id = 1, count do
    local h = homes[id]
    local n = #asked[h] + 1
    asked[h][n], who[h][n] = fields[id], id
  end
  for h = 1, #hashes do
    for from = 1, #asked[h], CHUNK do
      local upto = math.min(from + CHUNK - 1, #asked[h])
      local found = call('HMGET', hashes[h], unpack(asked[h], from, upto))
      for n = from, upto do
        raw[who[h][n]] = found[n - from + 1]
      end
    end
  end
  for x = 1, #indexes, 2 do
    call('ZCARD', indexes[x])
    call('HLEN', indexes[x + 1])
  end
end

local version, cell, cell_changed = {}, {}, {}
local counter, counter_changed = {}, {}
local first, past, is_log, was_log, stored_first, stored_past = {}, {}, {}, {}, {}, {}
local appended, appended_at, log_deleted, log_changed = {}, {}, {}, {}
for id = 1, count do
  local value, kind = raw[id], string.byte(fields[id])
  if kind == 99 then -- c
    version[id] = value and tonumber(string.sub(value, 1, string.find(value, ':', 1, true) - 1)) or 0
  elseif kind == 110 then -- n
    counter[id] = value and (string.find(value, ':', 1, true) and value or tonumber(value))
  else
    local base = value and tonumber(value) or 0
    local length = call('LLEN', lists[id])
    first[id], past[id], is_log[id], was_log[id] = base, base + length, value and true, value and true
    stored_first[id], stored_past[id] = base, base + length
  end
end

-- Evaluating ---------------------------------------------------------------------------------------------------------

local entry_value = {}      -- of an entry: what it becomes, false where it leaves
local cleared_fields = {}   -- of a hash: fields that go and that no record of this group is
local cleared_lists = {}
local overflow, has_cleared

local function halves(value)
  if type(value) == 'string' then
    local at = string.find(value, ':', 1, true)
    return tonumber(string.sub(value, 1, at - 1)), tonumber(string.sub(value, at + 1))
  end
  local high = math.floor(value / LOW)
  return high, value - high * LOW
end

local function sum(a, b) -- nil where it leaves 64 bits
  if type(a) == 'number' and type(b) == 'number' then
    local plain = a + b
    if plain > -EXACT and plain < EXACT then
      return plain
    end
  end
  local high, low = halves(a)
  local other_high, other_low = halves(b)
  high, low = high + other_high, low + other_low
  if low >= LOW then
    high, low = high + 1, low - LOW
  end
  if high >= HIGH or high < -HIGH then
    return nil
  end
  local whole = high * LOW + low
  if whole > -EXACT and whole < EXACT then
    return whole
  end
  return string.format('%.0f:%.0f', high, low)
end

local function delete_log(id)
  first[id], past[id], is_log[id], appended[id], appended_at[id] = 0, 0, false, nil, 0
  log_deleted[id], log_changed[id] = true, true
end

local function append(id, values)
  if #values == 0 then
    return past[id]
  end
  local mine = appended[id]
  if not mine then
    mine = {}
    appended[id], appended_at[id] = mine, past[id]
  end
  local n = #mine
  for k = 1, #values do
    mine[n + k] = values[k]
  end
  local position = past[id]
  past[id], is_log[id], log_changed[id] = position + #values, true, true
  return position
end

local function trim(id, before)
  before = math.min(before, past[id])
  if before <= first[id] then
    return
  end
  first[id], log_changed[id] = before, true
  local mine = appended[id]
  if mine and before > appended_at[id] then
    local kept = {}
    for k = before - appended_at[id] + 1, #mine do
      kept[#kept + 1] = mine[k]
    end
    appended[id], appended_at[id] = kept, before
  end
end

local function exists(id)
  local kind = string.byte(fields[id])
  if kind == 99 then
    return version[id] > 0
  elseif kind == 110 then
    return counter[id] and true or false
  end
  return is_log[id] and true or false
end

local function remove(id)
  local kind = string.byte(fields[id])
  if kind == 99 then
    version[id], cell[id], cell_changed[id] = 0, nil, true
  elseif kind == 110 then
    counter[id], counter_changed[id] = false, true
  else
    delete_log(id)
  end
end

local function clear(h, limit, kept, list_base)
  local keep, mine, gone, went = {}, {}, cleared_fields[h] or {}, 0
  local known = 0
  for k = 1, #kept do
    keep['c' .. kept[k]], keep['n' .. kept[k]], keep['l' .. kept[k]] = true, true, true
    known = known + 3
  end
  for id = 1, count do
    if homes[id] == h then
      mine[fields[id]] = true
      known = known + 1
      if went < limit and exists(id) and not keep[fields[id]] then
        remove(id)
        went = went + 1
      end
    end
  end
  for _ in pairs(gone) do
    known = known + 1
  end
  if went < limit then
    local found = call('HRANDFIELD', hashes[h], limit - went + known)
    for k = 1, #found do
      local field = found[k]
      if went < limit and not (keep[field] or mine[field] or gone[field]) then
        gone[field] = true
        went = went + 1
        if string.byte(field) == 108 then -- l
          local list = list_base .. string.sub(field, 2)
          call('LLEN', list)
          cleared_lists[#cleared_lists + 1] = list
        end
      end
    end
  end
  cleared_fields[h] = gone
  has_cleared = has_cleared or went > 0
  return went
end

local function fails(checks)
  for k = 1, #checks, 2 do
    local id, wanted = checks[k], checks[k + 1]
    local is = version[id] or past[id]
    if wanted == -1 and version[id] then
      if is == 0 then
        return (k + 1) / 2
      end
    elseif is ~= wanted then
      return (k + 1) / 2
    end
  end
end

local PUT, ENTER, LEAVE, ADD, APPEND, TRIM, DELETE, WHEN, CLEAR = 1, 2, 3, 4, 5, 6, 7, 8, 9

local function apply(writes, positions, touched, seen)
  local k, size = 1, #writes
  while k <= size do
    local code, id, value = writes[k], writes[k + 1], writes[k + 2]
    k = k + 3
    if code == PUT then
      version[id], cell[id], cell_changed[id] = version[id] + 1, value, true
    elseif code == ENTER then
      entry_value[id] = value
    elseif code == LEAVE then
      entry_value[id] = false
    elseif code == ADD then
      local total = sum(counter[id] or 0, value)
      if not total then
        overflow = id
        return
      end
      counter[id], counter_changed[id] = total, true
      if not seen[id] then
        seen[id] = true
        touched[#touched + 1] = id
      end
    elseif code == APPEND then
      local position = append(id, value)
      if not seen[id] then
        seen[id] = true
        positions[#positions + 1] = id
        positions[#positions + 1] = position
      end
    elseif code == TRIM then
      trim(id, value)
    elseif code == DELETE then
      remove(id)
      remove(value[1])
      remove(value[2])
    elseif code == WHEN then
      if not seen[id] then
        seen[id] = true
        touched[#touched + 1] = id
      end
      apply((counter[id] or 0) == value[1] and value[2] or value[3], positions, touched, seen)
      if overflow then
        return
      end
    end
  end
end

local outcomes = {}
for b = 1, #batches do
  local batch = batches[b]
  local checks, writes = batch[1], batch[2]
  local failed = fails(checks)
  if failed then
    outcomes[b] = failed
  elseif writes[1] == CLEAR then
    local asked = writes[3]
    outcomes[b] = {0, clear(writes[2], asked[1], asked[2], asked[3])}
  else
    local outcome, touched = {0}, {}
    apply(writes, outcome, touched, {})
    if overflow then
      return {'OVERFLOW', b, overflow}
    end
    outcome[1] = (#outcome - 1) / 2
    for k = 1, #touched do
      outcome[#outcome + 1] = touched[k]
      outcome[#outcome + 1] = counter[touched[k]] or 0
    end
    outcome[#outcome + 1] = 0
    outcomes[b] = outcome
  end
end

-- Writing ------------------------------------------------------------------------------------------------------------

local function each_chunk(command, key, arguments)
  for from = 1, #arguments, CHUNK do
    call(command, key, unpack(arguments, from, math.min(from + CHUNK - 1, #arguments)))
  end
end

-- Stops where nothing is left: a key that was emptied by what went before is one that a cluster's node, just handing its
-- slot over, lets nobody look at again.
local function each_chunk_gone(command, counting, key, names)
  if #names <= CHUNK then
    return each_chunk(command, key, names)
  end
  local left = call(counting, key)
  for from = 1, #names, CHUNK do
    if left == 0 then
      return
    end
    left = left - call(command, key, unpack(names, from, math.min(from + CHUNK - 1, #names)))
  end
end

local function push(groups, h, value)
  local mine = groups[h]
  if not mine then
    mine = {}
    groups[h] = mine
  end
  mine[#mine + 1] = value
end

local function flush()
  local sets, gone = {}, {}
  for id = 1, count do
    local h, field = homes[id], fields[id]
    if cell_changed[id] then
      if version[id] > 0 then
        push(sets, h, field)
        push(sets, h, string.format('%.0f:', version[id]) .. cell[id])
      elseif raw[id] then
        push(gone, h, field)
      end
    elseif counter_changed[id] then
      local value = counter[id]
      if value then
        push(sets, h, field)
        push(sets, h, type(value) == 'string' and value or string.format('%.0f', value))
      elseif raw[id] then
        push(gone, h, field)
      end
    elseif log_changed[id] then
      if not is_log[id] then
        if was_log[id] then
          push(gone, h, field)
        end
      elseif not was_log[id] or first[id] ~= stored_first[id] then
        push(sets, h, field)
        push(sets, h, string.format('%.0f', first[id]))
      end
    end
  end
  for h, names in pairs(cleared_fields) do
    for field in pairs(names) do
      push(gone, h, field)
    end
  end
  local adds, values, empties, leaves = {}, {}, {}, {}
  for id = 1, #entries do
    local value, x, member = entry_value[id], entry_homes[id], entries[id]
    if value == false then
      push(leaves, x, member)
      push(empties, x, member)
    elseif value then
      push(adds, x, '0')
      push(adds, x, member)
      if value == '' then
        push(empties, x, member)
      else
        push(values, x, member)
        push(values, x, value)
      end
    end
  end

  local is_changed = next(sets) or next(gone) or next(adds) or next(leaves) or next(appended)
  if not is_changed then
    return head[2]
  end
  if has_cleared then
    -- The first write decides whether a server without memory lets the script pass: this one asks for none.
    call('HDEL', KEYS[1], '')
  end
  local sequence = call('HINCRBY', KEYS[1], 'sequence', 1)
  -- What comes goes before what leaves: a key that was emptied in between is one that a cluster's node, just handing its
  -- slot over, lets nobody make again.
  for h, pairs_of in pairs(sets) do
    each_chunk('HSET', hashes[h], pairs_of)
  end
  for x, members in pairs(adds) do
    each_chunk('ZADD', indexes[2 * x - 1], members)
  end
  for x, pairs_of in pairs(values) do
    each_chunk('HSET', indexes[2 * x], pairs_of)
  end
  for id in pairs(log_changed) do
    local added = appended[id] and #appended[id] or 0
    if added > 0 then
      each_chunk('RPUSH', lists[id], appended[id])
    end
    if (log_deleted[id] and was_log[id]) or (not log_deleted[id] and first[id] > stored_first[id]) then
      if not log_deleted[id] and first[id] < stored_past[id] then
        call('LTRIM', lists[id], string.format('%.0f', first[id] - stored_first[id]), -1)
      elseif added > 0 then
        call('LTRIM', lists[id], -added, -1)
      else
        call('UNLINK', lists[id])
      end
    end
  end
  for h, names in pairs(gone) do
    each_chunk_gone('HDEL', 'HLEN', hashes[h], names)
  end
  for from = 1, #cleared_lists, CHUNK do
    call('UNLINK', unpack(cleared_lists, from, math.min(from + CHUNK - 1, #cleared_lists)))
  end
  for x, members in pairs(leaves) do
    each_chunk_gone('ZREM', 'ZCARD', indexes[2 * x - 1], members)
  end
  for x, members in pairs(empties) do
    each_chunk_gone('HDEL', 'HLEN', indexes[2 * x], members)
  end
  return sequence
end

local sequence = ARGV[3] == 'apply' and flush() or head[2]
local now = call('TIME')
return {tonumber(now[1]), tonumber(now[2]), tonumber(sequence or 0), outcomes}
