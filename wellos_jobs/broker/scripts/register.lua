-- register: make the ordered queue set of a worker known, so that pushes announce work to it;
-- announce what waits.
-- ARGV: queue set · seconds until a set without workers is forgotten · queue names in order
-- Returns the number of queues.
-- Includes: bell

local set, ttl = ARGV[1], ARGV[2]
local _, text_now = clock()
local key = own_key('set', set)

-- The first write needs no memory: Redis then allows the next ones even if its memory is full.
-- Workers can empty it.
redis.call('DEL', key)
for i = 3, #ARGV do redis.call('HSET', key, ARGV[i], i - 3) end
redis.call('EXPIRE', key, ttl)

for i = 3, #ARGV do
  local queue = ARGV[i]
  redis.call('SADD', own_key('sets', queue), set)
  announce_lanes(queue, text_now)
end
return #ARGV - 2
