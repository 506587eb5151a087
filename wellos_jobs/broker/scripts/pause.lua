-- pause: let no worker claim from a queue.
-- ARGV: queue · note and time (JSON)

local queue = ARGV[1]
redis.call('HSET', PAUSED, queue, ARGV[2])

for _, set in ipairs(redis.call('SMEMBERS', sets_key(queue))) do
  for _, priority in ipairs(PRIORITIES) do
    local lane = priority .. '|' .. queue
    redis.call('ZREM', ready_key(set), lane)
    redis.call('ZREM', age_key(set), lane)
  end
end
return 1
