-- pause: claims pass this queue by. ARGV: queue · who and when (JSON)
redis.call('HSET', W .. 'paused', ARGV[1], ARGV[2])
for _, set in ipairs(redis.call('SMEMBERS', W .. 'sets:' .. ARGV[1])) do
  for _, priority in ipairs({'1', '3', '5', '7', '10'}) do
    redis.call('ZREM', W .. 'ready:' .. set, priority .. '|' .. ARGV[1])
    redis.call('ZREM', W .. 'age:' .. set, priority .. '|' .. ARGV[1])
  end
end
return 1
