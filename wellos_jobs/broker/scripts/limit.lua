-- limit: set the number of a limit in force for every worker, or ('') go back to what the jobs say.
-- ARGV: id of the limit · number or ''
local id, number = ARGV[1], ARGV[2]
if number == '' then redis.call('HDEL', W .. 'limits', id) else redis.call('HSET', W .. 'limits', id, number) end
local now, text_now = clock()
if redis.call('HEXISTS', W .. 'gated', id) == 1 then -- somebody waits: look at once
  redis.call('ZADD', GATES, '0', id)
  open_gates(now, text_now)
end
return 1
