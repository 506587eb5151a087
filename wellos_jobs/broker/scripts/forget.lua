-- forget: let the hashes of ended jobs expire, once the rows are written.
-- ARGV: seconds to live · ids. A hash that already has less time to live keeps it.
-- Returns the number of ids.

local ttl = tonumber(ARGV[1])
local now = clock()
local FINAL = {finished = true, failed = true, canceled = true}

for i = 2, #ARGV do
  local id = ARGV[i]
  local v = redis.call('HMGET', job_key(id), 'status', 'origin', 'w:name')
  local status, queue, name = v[1], v[2], v[3]
  local left = redis.call('TTL', job_key(id))
  if FINAL[status] and name and (left < 0 or left > ttl) then
    redis.call('EXPIRE', job_key(id), ttl)
    redis.call('ZADD', rq_key(status, queue), 'XX', string.format('%.6f', now + ttl), id)
  end
end
return #ARGV - 1
