-- trusted: whether workers may claim jobs from this run of the server: its data were compared with
-- the rows, or there are none to compare.
-- ARGV: identity of the run · seconds after which they may in any case
-- Returns 1, 0 if not yet, 2 if the time is over.

local key, here, longest = W .. 'trusted', ARGV[1], tonumber(ARGV[2])
local v = redis.call('HMGET', key, 'run', 'new', 'since')
local trusted, new, since = v[1], v[2], v[3]
if not trusted or trusted == here then return 1 end

local now, text_now = clock()
if new ~= here then
  -- The first write needs no memory: Redis then allows the next ones even if its memory is full.
  redis.call('HDEL', key, 'new')
  redis.call('HSET', key, 'new', here, 'since', text_now)
  return 0
end
return now - tonumber(since) > longest and 2 or 0
