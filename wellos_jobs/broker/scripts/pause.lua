-- pause: let no worker claim from a queue.
-- ARGV: queue · note and time (JSON)

local queue = ARGV[1]
redis.call('HSET', W .. 'paused', queue, ARGV[2])

for _, set in ipairs(redis.call('SMEMBERS', own_key('sets', queue))) do
  for _, lane in ipairs(lanes_of(queue)) do
    redis.call('ZREM', own_key('ready', set), lane)
    redis.call('ZREM', own_key('age', set), lane)
  end
end
return 1
