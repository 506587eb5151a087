-- breaker: close a circuit breaker by hand, or open it until it is closed by hand.
-- ARGV: id · close or open
-- Returns 1, or 0 if it was closed already.

local id, to = ARGV[1], ARGV[2]
local now, text_now = clock()
local was_open = redis.call('EXISTS', breaker_key(id))

if to == 'open' then
  redis.call('HSET', breaker_key(id), 'since', string.format('%.3f', now), 'until', FAR)
  redis.call('HDEL', breaker_key(id), 'probe') -- a running probe must not close it
  return 1
end

close_breaker(id, text_now)
return was_open
