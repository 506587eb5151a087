-- tick: a supervisor's second. Moves due jobs, finds what foreign code pushed without a bell, scheduled or cancelled
-- through RQ, rings for work that nobody was woken for, keeps the queue set alive, and tells which jobs of its workers are to be
-- stopped.
-- ARGV: iso time · queue set · ttl of the set · number of queues · queue names · worker names
-- Returns {known set 1/0, seconds until the next delayed job is due or '', job ids to stop...}
local LONG = 31536000 -- RQ keeps cancelled jobs for ever; a year is enough

-- RQ's own cancel tells nobody: it scores the job with the moment it was cancelled, and gives it no time to live.
local function tell_canceled(queue, now)
  local registry = P .. ':canceled:' .. queue
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', registry, '-inf', now, 'LIMIT', 0, 100)) do
    local h = head(id)
    if h.status ~= 'canceled' or redis.call('TTL', job_key(id)) ~= -1 then
      redis.call('ZREM', registry, id)
    elseif not redis.call('ZSCORE', LEASES, id) then
      if h.foreign then redis.call('EXPIRE', job_key(id), LONG) end
      redis.call('ZADD', registry, h.foreign and string.format('%.6f', now + LONG) or FAR, id)
      h.worker = ''
      event('canceled', id, h, '{"message":"canceled through RQ"}')
    end
  end
end

local iso, set, ttl, count = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local now, text_now = clock()
local known = redis.call('EXPIRE', W .. 'set:' .. set, ttl)
move_due(now, text_now, iso, 500)
for i = 5, 4 + count do
  local queue = ARGV[i]
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', P .. ':scheduled:' .. queue, '-inf', now, 'LIMIT', 0, 100)) do
    local h = head(id) -- ours stand in the due set as well and were moved above
    redis.call('ZREM', P .. ':scheduled:' .. queue, id)
    if h.status == 'scheduled' then
      redis.call('HSET', job_key(id), 'status', 'queued', 'enqueued_at', iso)
      to_lane(id, queue, h.priority, text_now)
      h.worker = ''
      event('enqueued', id, h)
    end
  end
  tell_canceled(queue, now)
  if redis.call('EXISTS', lane_key(queue, '5')) == 1
      and not redis.call('ZSCORE', W .. 'ready:' .. set, '5|' .. queue) then
    announce(queue, '5', text_now)
  end
end
-- A token of the bell can die with the worker that took it, or be spent on queues that were suspended.
if redis.call('EXISTS', W .. 'ready:' .. set) == 1 and redis.call('EXISTS', P .. ':suspended') == 0 then ring(set) end
local due = next_due()
local reply = {known, due and string.format('%.3f', math.max(0, tonumber(due) - now)) or ''}
for i = 5 + count, #ARGV do
  local id = redis.call('HGET', worker_key(ARGV[i]), 'current_job')
  if id and id ~= '' and redis.call('HGET', job_key(id), 'w:cancel') then reply[#reply + 1] = id end
end
return reply
