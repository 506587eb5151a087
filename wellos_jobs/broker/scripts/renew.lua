-- renew: a supervisor says that it lives, and that these workers do: their leases and RQ worker keys last on.
-- ARGV: iso time · lease · ttl of the keys · the supervisor's token · what it is (JSON) · for each worker its name, the job
-- it is in ('' = none) and its memory in bytes ('' = unknown).
-- Returns {1 if it is to take no more jobs, the names Redis has forgotten...}. A key that ran out while Redis was away
-- carried the claim: the supervisor knows it.
-- EXPIRE comes first: after one write that needs no memory Redis lets a script finish although its memory is full.
local iso, lease, ttl, token = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4]
local now, text_now = clock()
local supervisor = W .. 'supervisor:' .. token
redis.call('EXPIRE', supervisor, ttl)
redis.call('HSET', supervisor, 'facts', ARGV[5], 'beat', text_now)
redis.call('EXPIRE', supervisor, ttl)
redis.call('ZADD', W .. 'supervisors', text_now, token)
redis.call('ZREMRANGEBYSCORE', W .. 'supervisors', '-inf', now - tonumber(ttl))
local reply = {redis.call('HEXISTS', supervisor, 'quiet')}
for i = 6, #ARGV, 3 do
  local key = worker_key(ARGV[i])
  if redis.call('HEXISTS', key, 'birth') == 0 then reply[#reply + 1] = ARGV[i] end
  redis.call('EXPIRE', key, ttl)
  if reply[1] == 1 and redis.call('HEXISTS', key, 'w:memory') == 0 then -- it was born since the others were told
    redis.call('HSET', key, 'w:quiet', '1')
  end
  redis.call('HSET', key, 'last_heartbeat', iso, 'w:supervisor', token, 'w:memory', ARGV[i + 2])
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
return reply
