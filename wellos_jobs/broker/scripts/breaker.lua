-- breaker: close a circuit breaker by hand, or open it until it is closed by hand.
-- ARGV: id · close or open
-- Returns 1, or 0 if it was closed already.
-- Includes: bell, lanes, limits

local id, to = ARGV[1], ARGV[2]
local now, text_now = clock()
local was_open = redis.call('EXISTS', own_key('breaker', id))

if to == 'open' then
  redis.call('HSET', own_key('breaker', id), 'since', string.format('%.3f', now), 'until', FAR)
  redis.call('HDEL', own_key('breaker', id), 'probe') -- a running probe must not close it
  return 1
end

close_breaker(id, text_now)
return was_open
