-- breaker: close a circuit breaker by hand, or open it until it is closed by hand. ARGV: id · close or open
-- Returns 1, or 0 when it was closed already.
local id = ARGV[1]
local now, text_now = clock()
local was_open = redis.call('EXISTS', breaker_of(id))
if ARGV[2] == 'open' then
  redis.call('HSET', breaker_of(id), 'since', string.format('%.3f', now), 'until', FAR)
  redis.call('HDEL', breaker_of(id), 'probe') -- a probe under way must not close it
  return 1
end
close_breaker(id, text_now)
return was_open
