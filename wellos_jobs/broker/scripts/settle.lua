-- settle: store how a run ended, announce it and, if a queue set is given, claim the next job in
-- the same step. Only the run that still holds the claim is settled: a stale run changes nothing.
--
--   queue_set  '' to claim nothing
--   outcome    completed, retried, snoozed, failed, canceled, handed_back, or waits_for_code: the
--              worker does not know the job (see lanes.lua)
--   after      seconds until it runs again (retried, snoozed)
--   seconds    run time
--   detail     JSON of the event
--   result     JSON
--   verdicts   what the run says about its circuit breakers, as JSON; '' for nothing
--   unknown_to the queue set whose workers do not know the job
--
-- Returns the answer of claiming.lua; settled is 1, 2 if the job was canceled while it ran, 0 if
-- the run is stale.
-- Includes: bell, lanes, limits, lifecycle, claiming

local call = arguments({'worker', 'number', 'nonce', 'queue_set', 'time', 'lease',
  'job_id', 'run', 'outcome', 'after', 'seconds', 'detail', 'result', 'error', 'verdicts',
  'unknown_to'})
local id, iso, outcome = call.job_id, call.time, call.outcome

local EVENT_OF = {handed_back = 'snoozed', waits_for_code = 'snoozed'}

-- The hash was deleted by foreign code while the job ran.
local function clean_up()
  local name = id .. ':' .. call.run
  local queue = redis.call('HGET', rq_key('execution', name), 'w:queue')
  if queue then
    close_execution(name, queue)
    redis.call('ZREM', LEASES, id)
  end
end

local MOST_UNKNOWN = 10000 -- codes that a queue set remembers not to know

-- The workers of this queue set do not know the job: they get no other one that needs this code.
local function wait_for_code(h, now, text_now)
  local unknown = own_key('unknown', call.unknown_to)
  if redis.call('HLEN', unknown) >= MOST_UNKNOWN then redis.call('DEL', unknown) end
  redis.call('HSET', unknown, h.code, call.detail)
  redis.call('EXPIRE', unknown, UNREGISTERED_TTL)

  uncount_attempt(id, h)
  if h.limits then uncount_start(h.limits, call.run) end
  redis.call('HSET', job_key(id), 'status', 'queued', 'enqueued_at', iso)
  hold(id, h, call.detail, now, text_now, true)
end

local function store(h)
  local key = job_key(id)
  local now, text_now = clock()

  if outcome == 'completed' then
    finish(id, h, 'finished', iso)
    redis.call('HSET', key, 'w:result', call.result, 'w:progress', '100')
    if h.attempt > 1 then redis.call('HDEL', key, 'w:error') end -- of an earlier attempt
  elseif outcome == 'failed' then
    finish(id, h, 'failed', iso)
    redis.call('HSET', key, 'w:error', call.error)
  elseif outcome == 'canceled' then
    finish(id, h, 'canceled', iso)
  elseif outcome == 'waits_for_code' then
    wait_for_code(h, now, text_now)
  elseif outcome == 'handed_back' then -- the worker stops
    uncount_attempt(id, h)
    requeue(id, h, iso, text_now)
  else -- retried or snoozed
    redis.call('HSET', key, 'status', 'scheduled', 'w:progress', '0')
    if outcome == 'snoozed' then
      redis.call('HSET', key, 'w:attempt', h.attempt - 1, 'w:message', call.error)
    else
      redis.call('HSET', key, 'w:error', call.error, 'w:message', '')
    end
    to_delayed(id, h.queue, string.format('%.6f', now + tonumber(call.after)))
  end
end

local function count()
  local worker = worker_key(call.worker)
  if outcome == 'completed' then
    redis.call('HINCRBY', worker, 'successful_job_count', 1)
  elseif outcome == 'failed' or outcome == 'retried' then
    redis.call('HINCRBY', worker, 'failed_job_count', 1)
  end
  redis.call('HINCRBYFLOAT', worker, 'total_working_time', call.seconds)
end

local function settle()
  local h = read_job(id)
  if not h.status then clean_up() end
  if h.run ~= call.run then return 0 end

  release(id, h, call.verdicts ~= '' and cjson.decode(call.verdicts))
  local canceled = h.cancel and outcome ~= 'completed' and outcome ~= 'failed'
  if canceled then outcome = 'canceled' end -- requested while it ran: it must not run again

  store(h)
  event(EVENT_OF[outcome] or outcome, id, h, call.detail)
  count()
  return canceled and 2 or 1
end

local settled, next_id, due = answered(call)
if not settled then
  local quiet = next_id
  next_id = nil
  settled = settle()
  if call.queue_set ~= '' and redis.call('EXISTS', own_key('set', call.queue_set)) == 1 then
    next_id, due = claim_next(call, quiet)
  end
  remember(call, settled, next_id, due)
end
return answer(settled, next_id, due)
