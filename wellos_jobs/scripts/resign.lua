-- resign: let go of the leader's lock, if it is still ours. ARGV: token
local key = W .. 'leader'
if redis.call('GET', key) == ARGV[1] then return redis.call('DEL', key) end
return 0
