-- forget: the rows know how these jobs ended, so their hashes may go. ARGV: seconds to live · ids
-- One that has less time to live already keeps that.
local ttl = tonumber(ARGV[1])
local now = clock()
local registries = {finished = 'finished', failed = 'failed', canceled = 'canceled'}
for i = 2, #ARGV do
  local id = ARGV[i]
  local v = redis.call('HMGET', job_key(id), 'status', 'origin', 'w:name')
  local left = redis.call('TTL', job_key(id))
  if v[1] and v[3] and registries[v[1]] and (left < 0 or left > ttl) then
    redis.call('EXPIRE', job_key(id), ttl)
    redis.call('ZADD', P .. ':' .. registries[v[1]] .. ':' .. v[2], 'XX', string.format('%.6f', now + ttl), id)
  end
end
return #ARGV - 1
