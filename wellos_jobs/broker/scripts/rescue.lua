-- rescue: end the claims of dead workers. Only this script may end a claim that the caller does not
-- hold.
-- ARGV: iso time · reason (crashed, timeout, canceled, handed_back) · worker · error text ·
--   deadline on the Redis clock ('' for none: see below) · job ids
-- Rescued are: with a worker and job ids, these jobs if the worker holds them; with a worker only,
-- the job it holds; without both, up to 100 jobs whose lease has run out.
-- A server that stalls judges leases by the time at which it goes on, before the renewals that it has
-- not read: after the deadline nothing is done.
-- Returns for each rescued job: id, name, queue, attempt, outcome (waiting, failed, canceled or
-- ended).
-- Includes: bell, lanes, limits, lifecycle

local iso, reason, worker, message, deadline = unpack(ARGV, 1, 5)
local now, text_now = clock()
if deadline ~= '' and now > tonumber(deadline) then return {} end

local MAX_FOREIGN_ATTEMPTS = 3

local detail = cjson.encode({
  reason = reason,
  message = message,
  error_class = reason == 'timeout' and 'JobTimeout' or 'WorkerDied',
})

-- Decide what becomes of a job whose claim was released.
local function rescue(id, h)
  if h.foreign and h.status ~= 'started' then -- RQ's code has stored its end; our lease was left
    local EVENT_OF = {finished = 'completed', failed = 'failed'}
    if h.status then event(EVENT_OF[h.status] or 'retried', id, h, detail) end
    return 'ended'
  end

  if reason == 'canceled' or h.cancel then
    finish(id, h, 'canceled', iso)
    event('canceled', id, h, detail)
    return 'canceled'
  end

  if reason == 'handed_back' then
    uncount_attempt(id, h)
    requeue(id, h, iso, text_now)
    event('snoozed', id, h, detail)
    return 'waiting'
  end

  local most = h.foreign and MAX_FOREIGN_ATTEMPTS or h.max
  if h.attempt < most then
    requeue(id, h, iso, text_now)
    event('rescued', id, h, detail)
    return 'waiting'
  end

  finish(id, h, 'failed', iso)
  redis.call('HSET', job_key(id), 'w:error', message)
  event('failed', id, h, detail)
  return 'failed'
end

local function chosen()
  if #ARGV > 5 then return {unpack(ARGV, 6)} end
  if worker == '' then return redis.call('ZRANGEBYSCORE', LEASES, '-inf', now, 'LIMIT', 0, 100) end

  local held = redis.call('HGET', worker_key(worker), 'current_job')
  return held and held ~= '' and {held} or {}
end

-- Whether the worker holds the job; without a worker, whether its lease has run out.
local function is_lost(h, lease)
  if worker ~= '' then return h.worker == worker end
  return lease and tonumber(lease) <= now
end

local reply = {}
for _, id in ipairs(chosen()) do
  local h = read_job(id)
  local lease = redis.call('ZSCORE', LEASES, id)
  if is_lost(h, lease) then
    if h.run then
      release(id, h)
      local outcome = rescue(id, h)
      for _, part in ipairs({id, h.name, h.queue, h.attempt, outcome}) do
        reply[#reply + 1] = part
      end
    elseif lease then -- a lease without a claim: foreign code has deleted the hash
      redis.call('ZREM', LEASES, id)
    end
  end
end
return reply
