-- birth: register a worker, as RQ does.
-- ARGV: name · seconds to live · number of queues · queue names · fields and values of its hash

local name, ttl, count = ARGV[1], ARGV[2], tonumber(ARGV[3])
local key = worker_key(name)

-- The first write needs no memory: Redis then allows the next ones even if its memory is full.
redis.call('HDEL', key, 'death')
redis.call('HSET', key, unpack(ARGV, 4 + count))
redis.call('EXPIRE', key, ttl)
redis.call('SADD', P .. ':workers', key)
for i = 4, 3 + count do redis.call('SADD', P .. ':workers:' .. ARGV[i], key) end
return 1
