-- relocate: change the queue or priority of a job that has not started.
-- ARGV: id · queue · priority
-- Returns 1, or 0 if it has started or ended. A job unknown to Redis, such as a blocked one, exists
-- as a row only.
-- Includes: bell, lanes, limits

local id, queue, priority = ARGV[1], ARGV[2], ARGV[3]
local _, text_now = clock()
local h = read_job(id)
if not h.status then return 1 end

if h.status == 'queued' then
  leave_lane(id, lane_of(h))
  if h.parked then unpark_one(id, h) end
elseif h.status == 'scheduled' then
  local at = redis.call('ZSCORE', DUE, id)
  redis.call('ZREM', rq_key('scheduled', h.queue), id)
  if at then redis.call('ZADD', rq_key('scheduled', queue), at, id) end
elseif h.status == 'deferred' then
  redis.call('ZREM', rq_key('deferred', h.queue), id)
  redis.call('ZADD', rq_key('deferred', queue), FAR, id)
else
  return 0
end

redis.call('HSET', job_key(id), 'origin', queue, 'w:prio', priority)
if h.status == 'queued' then to_lane(id, queue, priority, text_now, false, true) end
return 1
