-- lead: take or keep the leader's lock. ARGV: token · milliseconds. Returns 1 when the lock is held by the token.
-- Works also when Redis' memory is full (DEL needs none, and lets the script finish): only a leader can drain the stream.
local key = W .. 'leader'
local owner = redis.call('GET', key)
if owner and owner ~= ARGV[1] then return 0 end
redis.call('DEL', key)
redis.call('SET', key, ARGV[1], 'PX', ARGV[2])
return 1
