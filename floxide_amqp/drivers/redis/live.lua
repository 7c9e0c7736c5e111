-- Notes that a server, or one that was started again, has the tag from now on, and tells whether anything is missing.
--
-- A server's run id is its life: another one after each start, and on each server. The list of lives tells with which
-- sequence each began. So whoever saw a later sequence in the life before knows that commits are gone: the server was
-- started with less than it had reported, or a replica took over that did not have everything yet.
--
-- KEYS[1]  the tag's head
-- ARGV     incarnation, life of the server asked, life the caller knew ("" for none), greatest sequence seen in that
--
-- Returns {seconds, microseconds, sequence, life}, or {"WIPED", found}, or {"LOST", sequence there was}.

local call = redis.call
local MOST_LIVES = 100
local head = call('HMGET', KEYS[1], 'incarnation', 'sequence', 'life')
if head[1] ~= ARGV[1] then
  return {'WIPED', head[1] or ''}
end
local lives = KEYS[1] .. '-lives'
if head[3] ~= ARGV[2] then
  call('LTRIM', lives, -MOST_LIVES, -1) -- asks for no memory, and after it nothing is refused for lack of it
  call('HSET', KEYS[1], 'life', ARGV[2])
  call('RPUSH', lives, ARGV[2] .. ' ' .. head[2])
end
if ARGV[3] ~= '' then
  local all = call('LRANGE', lives, 0, -1)
  local at, began = #all, nil
  while at > 0 do
    local life, sequence = string.match(all[at], '^(%S+) (%d+)$')
    if life == ARGV[3] then
      break
    end
    at, began = at - 1, tonumber(sequence)
  end
  if began and (at == 0 or began < tonumber(ARGV[4])) then -- at 0, not even that life is known any more
    return {'LOST', began}
  end
end
local now = call('TIME')
return {tonumber(now[1]), tonumber(now[2]), tonumber(head[2]), ARGV[2]}
