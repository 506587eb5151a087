-- resign: release a lock, if the token holds it.
-- ARGV: name of the lock · token

local key, token = W .. ARGV[1], ARGV[2]
if redis.call('GET', key) == token then return redis.call('DEL', key) end
return 0
