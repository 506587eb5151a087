-- register: make a worker's ordered set of queues known, so that pushes announce work to it, and look what waits.
-- ARGV: queue set · seconds until a set without workers is forgotten · queue names in order
-- DEL comes first: after one write that needs no memory Redis lets a script finish although its memory is full, and it is
-- the workers who can empty it.
local set, ttl = ARGV[1], ARGV[2]
local _, text_now = clock()
local key = W .. 'set:' .. set
redis.call('DEL', key)
for i = 3, #ARGV do redis.call('HSET', key, ARGV[i], i - 3) end
redis.call('EXPIRE', key, ttl)
for i = 3, #ARGV do
  local queue = ARGV[i]
  redis.call('SADD', W .. 'sets:' .. queue, set)
  for _, priority in ipairs({'1', '3', '5', '7', '10'}) do
    if redis.call('EXISTS', lane_key(queue, priority)) == 1 then announce(queue, priority, text_now) end
  end
end
return #ARGV - 2
