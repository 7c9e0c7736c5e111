-- Makes the head of one tag where there is none, after trying every command that the scripts use: a user whose rights
-- reach only so far is found out before anything is written in part.
--
-- KEYS[1]  the head
-- ARGV     incarnation, format, number of tags, key to try commands on, "make", "look" or "whole"
--
-- Returns {incarnation, format, number of tags, whether the store is whole} as they are now.

local call = redis.call
local try = ARGV[4]
call('UNLINK', try)
call('HSET', try, 'a', '1')
call('HINCRBY', try, 'a', 1)
call('HMGET', try, 'a')
call('HGET', try, 'a')
call('HLEN', try)
call('HRANDFIELD', try, 1)
call('HSCAN', try, 0)
call('HDEL', try, 'a')
call('ZADD', try, '0', 'a')
call('ZCARD', try)
call('ZRANGEBYLEX', try, '-', '+', 'LIMIT', 0, 1)
call('ZREVRANGEBYLEX', try, '+', '-', 'LIMIT', 0, 1)
call('ZREM', try, 'a')
call('RPUSH', try, 'a')
call('LLEN', try)
call('LRANGE', try, 0, 0)
call('LTRIM', try, 1, -1)
call('TIME')
call('EXISTS', try)
if ARGV[5] == 'make' and call('EXISTS', KEYS[1]) == 0 then
  call('HSET', KEYS[1], 'incarnation', ARGV[1], 'format', ARGV[2], 'tags', ARGV[3], 'sequence', 0)
elseif ARGV[5] == 'whole' and call('HGET', KEYS[1], 'incarnation') == ARGV[1] then
  call('HSET', KEYS[1], 'whole', '1')
end
return call('HMGET', KEYS[1], 'incarnation', 'format', 'tags', 'whole')
