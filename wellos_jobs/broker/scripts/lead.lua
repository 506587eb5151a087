-- lead: take or keep a lock, so that one process leads.
-- ARGV: name of the lock · token · milliseconds until it expires
-- Returns 1 if the token holds the lock.

local key, token, ttl = W .. ARGV[1], ARGV[2], ARGV[3]
local owner = redis.call('GET', key)
if owner and owner ~= token then return 0 end

-- The first write needs no memory: Redis then allows the second one even if its memory is full.
redis.call('DEL', key)
redis.call('SET', key, token, 'PX', ttl)
return 1
