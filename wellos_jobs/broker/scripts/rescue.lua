-- rescue: end somebody else's claim, because its owner is dead. The only script that may.
-- ARGV: iso time · why (crashed, timeout, canceled, handed_back) · worker ('' = only claims whose lease has run out) ·
--       error text · job ids; with a worker and no ids: the job that worker holds; with neither: 100 whose lease
--       has run out
-- Returns for each job rescued: id, name, queue, attempt, what became of it (waiting, failed, canceled or ended).
local iso, why, worker, message = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local now, text_now = clock()
local MOST_FOREIGN_ATTEMPTS = 3

local function requeue(id, h, name, detail)
  redis.call('HSET', job_key(id), 'status', 'queued', 'enqueued_at', iso)
  redis.call('HDEL', job_key(id), 'w:progress', 'w:message')
  to_lane(id, h.queue, h.priority, text_now, true)
  event(name, id, h, detail)
  return 'waiting'
end

local function rescue(id, h)
  local detail = cjson.encode({reason = why, message = message, error_class = why == 'timeout' and 'JobTimeout'
    or 'WorkerDied'})
  if h.foreign and h.status ~= 'started' then -- RQ's own code had ended it; only our lease was left
    if h.status then
      event(h.status == 'finished' and 'completed' or (h.status == 'failed' and 'failed' or 'retried'), id, h, detail)
    end
    return 'ended'
  end
  if why == 'canceled' or h.cancel then
    finish(id, h, 'canceled', 'canceled', iso)
    event('canceled', id, h, detail)
    return 'canceled'
  end
  if why == 'handed_back' then
    redis.call('HSET', job_key(id), 'w:attempt', h.attempt - 1)
    return requeue(id, h, 'snoozed', detail)
  end
  local most = h.foreign and MOST_FOREIGN_ATTEMPTS or h.max
  if h.attempt < most then return requeue(id, h, 'rescued', detail) end
  finish(id, h, 'failed', 'failed', iso)
  redis.call('HSET', job_key(id), 'w:error', message)
  event('failed', id, h, detail)
  return 'failed'
end

local ids = {}
for i = 5, #ARGV do ids[#ids + 1] = ARGV[i] end
if #ids == 0 and worker ~= '' then
  local held = redis.call('HGET', worker_key(worker), 'current_job')
  if held and held ~= '' then ids[1] = held end
elseif #ids == 0 then
  ids = redis.call('ZRANGEBYSCORE', LEASES, '-inf', now, 'LIMIT', 0, 100)
end

local reply = {}
for _, id in ipairs(ids) do
  local h = head(id)
  local lease = redis.call('ZSCORE', LEASES, id)
  local ours = worker ~= '' and h.worker == worker or worker == '' and lease and tonumber(lease) <= now
  if ours and h.run then
    release(id, h)
    local ending = rescue(id, h)
    for _, part in ipairs({id, h.name, h.queue, h.attempt, ending}) do reply[#reply + 1] = part end
  elseif ours and lease then -- a lease without a claim: the hash was deleted by foreign code
    redis.call('ZREM', LEASES, id)
  end
end
return reply
