-- resign: let go of a lock, if it is still ours. ARGV: name of the lock · token
local key = W .. ARGV[1]
if redis.call('GET', key) == ARGV[2] then return redis.call('DEL', key) end
return 0
