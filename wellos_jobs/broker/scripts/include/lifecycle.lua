-- lifecycle: how a job leaves a state, for every script. Needs lib and limits.

-- Move at most `limit` delayed jobs whose time has come into their lanes.
local function move_due(now, text_now, iso, limit)
  open_gates(now, text_now)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', DUE, '-inf', now, 'LIMIT', 0, limit)) do
    redis.call('ZREM', DUE, id)
    local h = head(id)
    redis.call('ZREM', P .. ':scheduled:' .. h.queue, id)
    if h.status == 'scheduled' then
      redis.call('HSET', job_key(id), 'status', 'queued', 'enqueued_at', iso)
      to_lane(id, h.queue, h.priority, text_now)
      h.worker = ''
      event('enqueued', id, h)
    end
  end
end

-- What RQ calls an execution: `rq:wip` and the pages of django-rq know a run by it. Foreign jobs' are made by RQ.
-- It is not listed under its worker: django-rq's page of a worker reads that job as a pickle and ends in an error 500.
local function open_execution(id, run, queue, worker, text_now)
  local name = id .. ':' .. run
  redis.call('ZADD', P .. ':wip:' .. queue, FAR, name)
  redis.call('HSET', P .. ':execution:' .. name, 'id', run, 'job_id', id, 'created_at', text_now,
    'last_heartbeat', text_now, 'worker_name', worker, 'w:queue', queue)
end

local function close_execution(name, queue)
  redis.call('ZREM', P .. ':wip:' .. queue, name)
  redis.call('DEL', P .. ':execution:' .. name)
end

-- End a claim: the job is in no structure after this until the caller puts it into its next one, in this script.
local function release(id, h, verdicts)
  if h.foreign then -- RQ's own code has closed its executions, unless its process died
    for _, name in ipairs(redis.call('ZRANGE', P .. ':wip:' .. h.queue, 0, -1)) do
      if string.sub(name, 1, #id + 1) == id .. ':' then close_execution(name, h.queue) end
    end
  else
    close_execution(id .. ':' .. (h.run or ''), h.queue)
  end
  redis.call('ZREM', LEASES, id)
  redis.call('HDEL', job_key(id), 'w:run', 'w:cancel')
  local key = worker_key(h.worker)
  if redis.call('HGET', key, 'current_job') == id then
    redis.call('HSET', key, 'current_job', '', 'state', 'idle')
  end
  if h.limits then free(id, h.limits, verdicts or {}, clock()) end
end

-- When something waits for a time to come: the next delayed job, or the next gate of a limit. nil when nothing does.
local function next_due()
  local due = redis.call('ZRANGE', DUE, 0, 0, 'WITHSCORES')[2]
  local gate = redis.call('ZRANGE', GATES, 0, 0, 'WITHSCORES')[2]
  if due and gate then return tonumber(due) < tonumber(gate) and due or gate end
  return due or gate
end

-- Give a job its final status. No time to live: the ledger sets it once the rows know. That of a foreign job is RQ's own
-- for failed jobs, a year, so that RQ's tools can requeue it.
local function finish(id, h, status, registry, iso)
  local upto = FAR
  redis.call('HSET', job_key(id), 'status', status, 'ended_at', iso)
  if h.foreign then
    redis.call('EXPIRE', job_key(id), 31536000)
    upto = string.format('%.6f', clock() + 31536000)
  end
  redis.call('ZADD', P .. ':' .. registry .. ':' .. h.queue, upto, id)
end
