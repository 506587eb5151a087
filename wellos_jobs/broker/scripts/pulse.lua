-- pulse: how this Redis lives. Its epoch (made if there is none: it came back empty), and the leader's beat.
-- ARGV: an epoch to take if there is none · '1' to beat. Returns {epoch, the beat before ('' = none), now}
-- DEL comes first: after one write that needs no memory Redis lets a script finish although its memory is full.
local _, text_now = clock()
local epoch = redis.call('GET', W .. 'epoch')
local before = redis.call('GET', W .. 'beat') or ''
if ARGV[2] == '1' then
  redis.call('DEL', W .. 'beat')
  redis.call('SET', W .. 'beat', text_now)
end
if not epoch then
  epoch = ARGV[1]
  redis.call('SET', W .. 'epoch', epoch)
end
return {epoch, before, text_now}
