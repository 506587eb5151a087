-- settle: store how a run ended, announce it, and, when a queue set is given, claim the next job in the same step.
-- Only the run that still holds the claim is settled: a stale finisher changes nothing. Needs lib and claiming.
-- ARGV: worker · number of the call · nonce · queue set ('' = claim nothing) · iso time · lease ·
--       id · run · outcome · seconds until it runs again (retried, snoozed) · run time in seconds · detail (JSON of the event) ·
--       result (JSON) · error text · verdicts of its circuit breakers (JSON, '' for none)
-- Returns {1 settled, 2 settled as canceled or 0 stale, next due, id, fields of the job claimed}
local worker, seq, nonce, set, iso, lease = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], tonumber(ARGV[6])
local id, run, outcome, after, seconds, detail = ARGV[7], ARGV[8], ARGV[9], ARGV[10], ARGV[11], ARGV[12]

local function settle()
  local h = head(id)
  if not h.status then -- foreign code has deleted the job while it ran
    local queue = redis.call('HGET', P .. ':execution:' .. id .. ':' .. run, 'w:queue')
    if queue then
      close_execution(id .. ':' .. run, queue)
      redis.call('ZREM', LEASES, id)
    end
  end
  if h.run ~= run then return 0 end
  local key = job_key(id)
  local now, text_now = clock()
  release(id, h, ARGV[15] ~= '' and cjson.decode(ARGV[15]))
  local canceled = h.cancel and outcome ~= 'completed' and outcome ~= 'failed'
  if canceled then outcome = 'canceled' end -- asked for while it ran: it must not run again
  if outcome == 'completed' then
    finish(id, h, 'finished', 'finished', iso)
    redis.call('HSET', key, 'w:result', ARGV[13], 'w:progress', '100')
    if h.attempt > 1 then redis.call('HDEL', key, 'w:error') end -- of an attempt before
  elseif outcome == 'failed' then
    finish(id, h, 'failed', 'failed', iso)
    redis.call('HSET', key, 'w:error', ARGV[14])
  elseif outcome == 'canceled' then
    finish(id, h, 'canceled', 'canceled', iso)
  elseif outcome == 'handed_back' then -- the worker stops: to the front of its lane, the attempt does not count
    redis.call('HSET', key, 'status', 'queued', 'enqueued_at', iso, 'w:attempt', h.attempt - 1)
    redis.call('HDEL', key, 'w:progress', 'w:message')
    to_lane(id, h.queue, h.priority, text_now, true)
  else -- retried or snoozed
    redis.call('HSET', key, 'status', 'scheduled', 'w:progress', '0')
    if outcome == 'snoozed' then
      redis.call('HSET', key, 'w:attempt', h.attempt - 1, 'w:message', ARGV[14])
    else
      redis.call('HSET', key, 'w:error', ARGV[14], 'w:message', '')
    end
    to_delayed(id, h.queue, string.format('%.6f', now + tonumber(after)))
  end
  event(outcome == 'handed_back' and 'snoozed' or outcome, id, h, detail)
  if outcome == 'completed' then
    redis.call('HINCRBY', worker_key(worker), 'successful_job_count', 1)
  elseif outcome == 'failed' or outcome == 'retried' then
    redis.call('HINCRBY', worker_key(worker), 'failed_job_count', 1)
  end
  redis.call('HINCRBYFLOAT', worker_key(worker), 'total_working_time', seconds)
  return canceled and 2 or 1
end

local settled, next_id, due = answered(worker, nonce, seq)
if not settled then
  local quiet = next_id
  next_id = nil
  settled = settle()
  if set ~= '' and redis.call('EXISTS', W .. 'set:' .. set) == 1 then
    next_id, due = claim_next(set, worker, nonce, seq, iso, lease, quiet)
  end
  remember(worker, nonce, seq, settled, next_id, due)
end
return answer(settled, next_id, due)
