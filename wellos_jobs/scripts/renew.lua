-- renew: a supervisor says that these workers live: their leases and RQ worker keys last on.
-- ARGV: iso time · lease · ttl of the worker keys · for each worker its name and the job it is in ('' = none).
-- Returns the names Redis has forgotten. A key that ran out while Redis was away carried the claim: the supervisor knows it.
-- EXPIRE comes first: after one write that needs no memory Redis lets a script finish although its memory is full.
local iso, lease, ttl = ARGV[1], tonumber(ARGV[2]), ARGV[3]
local now, text_now = clock()
local forgotten = {}
for i = 4, #ARGV, 2 do
  local key = worker_key(ARGV[i])
  if redis.call('HEXISTS', key, 'birth') == 0 then forgotten[#forgotten + 1] = ARGV[i] end
  redis.call('EXPIRE', key, ttl)
  redis.call('HSET', key, 'last_heartbeat', iso)
  local id = redis.call('HGET', key, 'current_job')
  if not id and ARGV[i + 1] ~= '' then
    local h = head(ARGV[i + 1])
    if h.status == 'started' and h.worker == ARGV[i] then
      id = ARGV[i + 1]
      redis.call('HSET', key, 'current_job', id, 'state', 'busy')
    end
  end
  if id and id ~= '' then
    redis.call('ZADD', LEASES, 'XX', string.format('%.6f', now + lease), id)
    redis.call('HSET', job_key(id), 'last_heartbeat', iso)
    local execution = P .. ':execution:' .. id .. ':' .. (redis.call('HGET', job_key(id), 'w:run') or '')
    if redis.call('EXISTS', execution) == 1 then redis.call('HSET', execution, 'last_heartbeat', text_now) end
  end
end
return forgotten
