-- fair: say in which queues the organizations take turns. What waits already keeps its place.
-- ARGV: queue · 1 or 0, and so on
for i = 1, #ARGV, 2 do
  if ARGV[i + 1] == '1' then redis.call('HSET', W .. 'fair', ARGV[i], 1) else redis.call('HDEL', W .. 'fair', ARGV[i]) end
end
return 1
