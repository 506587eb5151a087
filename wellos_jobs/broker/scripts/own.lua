-- own: note to which installation this Redis belongs, unless another one was faster.
-- ARGV: identity · home
-- Returns the identity that is noted.

local key, identity, home = W .. 'installation', ARGV[1], ARGV[2]
local owner = redis.call('HGET', key, 'identity')
if owner and owner ~= identity then return owner end

-- The first write needs no memory: Redis then allows the next one even if its memory is full.
redis.call('HDEL', key, 'home')
redis.call('HSET', key, 'identity', identity, 'home', home)
return identity
