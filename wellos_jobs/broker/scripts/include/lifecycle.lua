-- lifecycle: how a job changes its state. Needs bell, lanes and limits.

local YEAR = 31536000 -- seconds; RQ keeps failed jobs that long

-- A job that was delayed, or enqueued through RQ, may run now: put it into its lane and append
-- the event.
local function make_ready(id, h, queue, iso, text_now, in_front)
  redis.call('HSET', job_key(id), 'status', 'queued', 'enqueued_at', iso)
  to_lane(id, queue, h.priority, text_now, in_front)
  h.worker = ''
  event('enqueued', id, h)
end

-- Move at most `limit` delayed jobs that are due into their lanes.
local function move_due(now, text_now, iso, limit)
  open_gates(now, text_now)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', DUE, '-inf', now, 'LIMIT', 0, limit)) do
    redis.call('ZREM', DUE, id)
    local h = read_job(id)
    redis.call('ZREM', rq_key('scheduled', h.queue), id)
    if h.status == 'scheduled' then make_ready(id, h, h.queue, iso, text_now) end
  end
end

-- Put a job whose run was broken off back to the front of its lane.
local function requeue(id, h, iso, text_now)
  redis.call('HSET', job_key(id), 'status', 'queued', 'enqueued_at', iso)
  redis.call('HDEL', job_key(id), 'w:progress', 'w:message')
  to_lane(id, h.queue, h.priority, text_now, true)
end

-- The run does not count as an attempt.
local function uncount_attempt(id, h)
  redis.call('HSET', job_key(id), 'w:attempt', h.attempt - 1)
end

-- RQ calls a run an execution: `rq:wip` and django-rq's pages list them. RQ itself makes those of
-- foreign jobs. Ours is not listed under its worker: django-rq's worker page reads that job as a
-- pickle and fails with an error 500.
local function open_execution(id, run, queue, worker, text_now)
  local name = id .. ':' .. run
  redis.call('ZADD', rq_key('wip', queue), FAR, name)
  redis.call('HSET', rq_key('execution', name), 'id', run, 'job_id', id, 'created_at', text_now,
    'last_heartbeat', text_now, 'worker_name', worker, 'w:queue', queue)
end

local function close_execution(name, queue)
  redis.call('ZREM', rq_key('wip', queue), name)
  redis.call('DEL', rq_key('execution', name))
end

-- End a claim. Afterwards the job is in no structure: the calling script must put it into its next
-- one.
local function release(id, h, verdicts)
  if h.foreign then -- RQ closes the executions of foreign jobs, unless its process died
    for _, name in ipairs(redis.call('ZRANGE', rq_key('wip', h.queue), 0, -1)) do
      if string.sub(name, 1, #id + 1) == id .. ':' then close_execution(name, h.queue) end
    end
  else
    close_execution(id .. ':' .. (h.run or ''), h.queue)
  end

  redis.call('ZREM', LEASES, id)
  redis.call('HDEL', job_key(id), 'w:run', 'w:cancel')

  local worker = worker_key(h.worker)
  if redis.call('HGET', worker, 'current_job') == id then
    redis.call('HSET', worker, 'current_job', '', 'state', 'idle')
  end

  if h.limits then free(id, h.limits, verdicts or {}, clock()) end
end

-- When the next delayed job is due or the next gate of a limit opens; nil if there is neither.
local function next_due()
  local due = redis.call('ZRANGE', DUE, 0, 0, 'WITHSCORES')[2]
  local gate = redis.call('ZRANGE', GATES, 0, 0, 'WITHSCORES')[2]
  if due and gate then return tonumber(due) < tonumber(gate) and due or gate end
  return due or gate
end

-- Give a job its final status: finished, failed or canceled. It gets no time to live: the ledger
-- sets that once the rows are written. A foreign job gets RQ's time to live for failed jobs, so
-- that RQ's tools can requeue it.
local function finish(id, h, status, iso)
  local expires = FAR
  redis.call('HSET', job_key(id), 'status', status, 'ended_at', iso)
  if h.foreign then
    redis.call('EXPIRE', job_key(id), YEAR)
    expires = string.format('%.6f', clock() + YEAR)
  end
  redis.call('ZADD', rq_key(status, h.queue), expires, id)
end

-- Cancel a job that is not running. The caller has taken it out of the structure it was in.
local function finish_canceled(id, h, iso, detail)
  h.worker = ''
  finish(id, h, 'canceled', iso)
  event('canceled', id, h, detail)
end
