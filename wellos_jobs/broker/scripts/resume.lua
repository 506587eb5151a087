-- resume: claims take from this queue again. ARGV: queue. Returns 1, or 0 when it was not paused.
local was = redis.call('HDEL', W .. 'paused', ARGV[1])
local _, text_now = clock()
for _, priority in ipairs({'1', '3', '5', '7', '10'}) do
  if redis.call('EXISTS', lane_key(ARGV[1], priority)) == 1 then announce(ARGV[1], priority, text_now) end
end
return was
