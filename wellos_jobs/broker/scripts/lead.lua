-- lead: take or keep a lock, so that one process leads. ARGV: name of the lock · token · milliseconds.
-- Returns 1 when the token holds the lock.
local key = W .. ARGV[1]
local owner = redis.call('GET', key)
if owner and owner ~= ARGV[2] then return 0 end
redis.call('DEL', key) -- a write that needs no memory, so that the next one is let through although memory is full
redis.call('SET', key, ARGV[2], 'PX', ARGV[3])
return 1
