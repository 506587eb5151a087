-- renew: the heartbeat of a supervisor: renews its own key, the RQ keys of its workers and the
-- leases of their jobs.
-- ARGV: iso time · lease in seconds · ttl of the keys · token of the supervisor · facts about it
--   (JSON) · for each worker its name, the id of its job ('' if none) and its memory in bytes (''
--   if unknown)
-- Returns {1 if it is to take no more jobs, names of workers that Redis has forgotten...}. If the
-- key of a worker has expired, as while Redis was unavailable, the claim in it is restored: the
-- supervisor knows it.
-- EXPIRE comes first: a first write that needs no memory lets the script finish even if the memory
-- of Redis is full.

local iso, lease, ttl, token, facts = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4], ARGV[5]
local now, text_now = clock()

local function renew_supervisor()
  local key = own_key('supervisor', token)
  redis.call('EXPIRE', key, ttl)
  redis.call('HSET', key, 'facts', facts, 'beat', text_now)
  redis.call('EXPIRE', key, ttl)
  redis.call('ZADD', W .. 'supervisors', text_now, token)
  redis.call('ZREMRANGEBYSCORE', W .. 'supervisors', '-inf', now - tonumber(ttl))
  return redis.call('HEXISTS', key, 'quiet')
end

-- Return the job of a worker whose lease is to be renewed. The supervisor knows what runs: a Redis
-- with older data may name a job that the worker ended before. It names none while the worker is
-- between two runs, as when it settles: then the key is right, and the worker's next call corrects
-- it. If the key has expired, the claim in it is restored.
local function job_of(worker, job_id)
  local key = worker_key(worker)
  local id = redis.call('HGET', key, 'current_job')
  if job_id == '' or id == job_id then return id end

  local h = read_job(job_id)
  if h.status ~= 'started' or h.worker ~= worker then return end
  redis.call('HSET', key, 'current_job', job_id, 'state', 'busy')
  return job_id
end

local function renew_job(id)
  redis.call('ZADD', LEASES, 'XX', string.format('%.6f', now + lease), id)
  redis.call('HSET', job_key(id), 'last_heartbeat', iso)

  local run = redis.call('HGET', job_key(id), 'w:run') or ''
  local execution = rq_key('execution', id .. ':' .. run)
  if redis.call('EXISTS', execution) == 1 then
    redis.call('HSET', execution, 'last_heartbeat', text_now)
  end
end

local quiet = renew_supervisor()
local reply = {quiet}
for i = 6, #ARGV, 3 do
  local worker, job_id, memory = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local key = worker_key(worker)
  local registered = redis.call('HEXISTS', key, 'birth') == 1
  if not registered then reply[#reply + 1] = worker end

  redis.call('EXPIRE', key, ttl)
  if quiet == 1 and redis.call('HEXISTS', key, 'w:memory') == 0 then -- it has just started
    redis.call('HSET', key, 'w:quiet', '1')
  end
  redis.call('HSET', key, 'last_heartbeat', iso, 'w:supervisor', token, 'w:memory', memory)

  local id = job_of(worker, job_id)
  if id and id ~= '' then renew_job(id) end
  if not registered then redis.call('EXPIRE', key, ttl) end -- the key is new
end
return reply
