-- fair: set in which queues organizations take turns. Waiting jobs keep their place.
-- ARGV: for each queue its name and 1 (fair) or 0

for i = 1, #ARGV, 2 do
  local queue, is_fair = ARGV[i], ARGV[i + 1] == '1'
  if is_fair then
    redis.call('HSET', W .. 'fair', queue, 1)
  else
    redis.call('HDEL', W .. 'fair', queue)
  end
end
return 1
