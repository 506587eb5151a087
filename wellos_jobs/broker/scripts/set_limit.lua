-- set_limit: set the number of a limit for all workers, or return to the number that the jobs give.
-- ARGV: id of the limit · number ('' to return)
-- Includes: bell, lanes, limits

local id, number = ARGV[1], ARGV[2]
if number == '' then
  redis.call('HDEL', W .. 'limits', id)
else
  redis.call('HSET', W .. 'limits', id, number)
end

local now, text_now = clock()
if redis.call('HEXISTS', W .. 'gated', id) == 1 then -- jobs wait: check at once
  redis.call('ZADD', GATES, '0', id)
  open_gates(now, text_now)
end
return 1
