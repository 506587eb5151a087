-- register: make the ordered queue set of a worker known, so that pushes announce work to it;
-- announce what waits.
-- ARGV: queue set · seconds until a set without workers is forgotten · number of queues · queue
--   names in order · for each job that these workers know its name and the version of its data
-- Returns the number of queues.
-- Includes: bell

local set, ttl, count = ARGV[1], ARGV[2], tonumber(ARGV[3])
local _, text_now = clock()
local key = own_key('set', set)

-- The first write needs no memory: Redis then allows the next ones even if its memory is full.
-- Workers can empty it.
local jobs = own_key('jobs', set)
redis.call('DEL', key, jobs)
for i = 4, 3 + count do redis.call('HSET', key, ARGV[i], i - 4) end
redis.call('EXPIRE', key, ttl)
for i = 4 + count, #ARGV, 2 do redis.call('HSET', jobs, ARGV[i], ARGV[i + 1]) end
redis.call('EXPIRE', jobs, ttl)

for i = 4, 3 + count do
  local queue = ARGV[i]
  redis.call('SADD', own_key('sets', queue), set)
  announce_lanes(queue, text_now)
end
return count
