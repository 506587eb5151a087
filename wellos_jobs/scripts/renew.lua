-- renew: a supervisor says that these workers live: their leases and RQ worker keys last on.
-- ARGV: iso time · lease · ttl of the worker keys · worker names. Returns the names Redis has forgotten.
-- EXPIRE comes first: after one write that needs no memory Redis lets a script finish although its memory is full.
local iso, lease, ttl = ARGV[1], tonumber(ARGV[2]), ARGV[3]
local now, text_now = clock()
local forgotten = {}
for i = 4, #ARGV do
  local key = worker_key(ARGV[i])
  if redis.call('HEXISTS', key, 'birth') == 0 then forgotten[#forgotten + 1] = ARGV[i] end
  redis.call('EXPIRE', key, ttl)
  redis.call('HSET', key, 'last_heartbeat', iso)
  local id = redis.call('HGET', key, 'current_job')
  if id and id ~= '' then
    redis.call('ZADD', LEASES, 'XX', string.format('%.6f', now + lease), id)
    redis.call('HSET', job_key(id), 'last_heartbeat', iso)
    local execution = P .. ':execution:' .. id .. ':' .. (redis.call('HGET', job_key(id), 'w:run') or '')
    if redis.call('EXISTS', execution) == 1 then redis.call('HSET', execution, 'last_heartbeat', text_now) end
  end
end
return forgotten
