-- settle: store how a run ended, announce it and, if a queue set is given, claim the next job in
-- the same step. Only the run that still holds the claim is settled: a stale run changes nothing.
--
--   queue_set  '' to claim nothing
--   outcome    completed, retried, snoozed, failed, canceled or handed_back
--   after      seconds until it runs again (retried, snoozed)
--   seconds    run time
--   detail     JSON of the event
--   result     JSON
--   verdicts   what the run says about its circuit breakers, as JSON; '' for nothing
--
-- Returns the answer of claiming.lua; settled is 1, 2 if the job was canceled while it ran, 0 if
-- the run is stale.
-- Includes: bell, lanes, limits, lifecycle, claiming

local call = arguments({'worker', 'number', 'nonce', 'queue_set', 'time', 'lease',
  'job_id', 'run', 'outcome', 'after', 'seconds', 'detail', 'result', 'error', 'verdicts'})
local id, iso, outcome = call.job_id, call.time, call.outcome

-- The hash was deleted by foreign code while the job ran.
local function clean_up()
  local name = id .. ':' .. call.run
  local queue = redis.call('HGET', rq_key('execution', name), 'w:queue')
  if queue then
    close_execution(name, queue)
    redis.call('ZREM', LEASES, id)
  end
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
  event(outcome == 'handed_back' and 'snoozed' or outcome, id, h, call.detail)
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
