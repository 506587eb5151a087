-- pulse: read the epoch of this Redis, and set the leader's beat. Without an epoch Redis has lost
-- its data: make one.
-- ARGV: a new epoch, used if there is none · '1' to set the beat
-- Returns {epoch, the previous beat ('' if none), now}

local EPOCH, BEAT = W .. 'epoch', W .. 'beat'
local _, text_now = clock()
local epoch = redis.call('GET', EPOCH)
local before = redis.call('GET', BEAT) or ''

if ARGV[2] == '1' then
  -- The first write needs no memory: Redis then allows the next ones even if its memory is full.
  redis.call('DEL', BEAT)
  redis.call('SET', BEAT, text_now)
end
if not epoch then
  epoch = ARGV[1]
  redis.call('SET', EPOCH, epoch)
end
return {epoch, before, text_now}
