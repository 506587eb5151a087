-- supervise: run once a second by each supervisor. Moves due jobs, finds jobs that were pushed,
-- scheduled or canceled through RQ, rings for work that woke no worker, keeps the queue set alive,
-- and returns which jobs to stop.
-- ARGV: iso time · queue set · ttl of the set · number of queues · queue names · worker names
-- Returns {1 if the set is known, seconds until the next delayed job is due or '', 1 if jobs wait for
-- code, ids of jobs to stop...}
-- Includes: bell, lanes, limits, lifecycle

local iso, set, ttl, count = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local now, text_now = clock()

-- Jobs scheduled through RQ. Ours are in the due set as well, and were moved already.
local function move_scheduled(queue)
  local key = rq_key('scheduled', queue)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', key, '-inf', now, 'LIMIT', 0, 100)) do
    redis.call('ZREM', key, id)
    local h = read_job(id)
    if h.status == 'scheduled' then make_ready(id, h, queue, iso, text_now) end
  end
end

-- Jobs canceled through RQ: their score is the time of the cancellation, and they have no time to
-- live. RQ keeps them forever; a year is enough.
local function record_canceled(queue)
  local registry = rq_key('canceled', queue)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', registry, '-inf', now, 'LIMIT', 0, 100)) do
    local h = read_job(id)
    if h.status ~= 'canceled' or redis.call('TTL', job_key(id)) ~= -1 then
      redis.call('ZREM', registry, id)
    elseif not redis.call('ZSCORE', LEASES, id) then
      if h.foreign then redis.call('EXPIRE', job_key(id), YEAR) end
      redis.call('ZADD', registry, h.foreign and string.format('%.6f', now + YEAR) or FAR, id)
      h.worker = ''
      event('canceled', id, h, '{"message":"canceled through RQ"}')
    end
  end
end

-- Jobs pushed through RQ.
local function announce_pushed(queue)
  if redis.call('EXISTS', lane_key('5|' .. queue)) == 1
      and not redis.call('ZSCORE', own_key('ready', set), '5|' .. queue) then
    announce('5|' .. queue, text_now)
  end
end

-- Renew what Redis knows of the queue set. With workers it is in the fleet: what none of its sets
-- knows is unknown.
local function renew_set()
  redis.call('EXPIRE', own_key('unknown', set), ttl)
  redis.call('EXPIRE', own_key('jobs', set), ttl)
  if #ARGV > 4 + count then
    redis.call('ZADD', W .. 'fleet', text_now, set)
    redis.call('ZREMRANGEBYSCORE', W .. 'fleet', '-inf', now - tonumber(ttl))
  end
  return redis.call('EXPIRE', own_key('set', set), ttl)
end

local known = renew_set()
local waits_for_code = 0
move_due(now, text_now, iso, 500)
for i = 5, 4 + count do
  move_scheduled(ARGV[i])
  record_canceled(ARGV[i])
  announce_pushed(ARGV[i])
  if redis.call('EXISTS', own_key('code_lanes', ARGV[i])) == 1 then waits_for_code = 1 end
end

-- A token of the bell can be lost with the worker that took it, or be used up while work was
-- suspended.
local suspended = redis.call('EXISTS', P .. ':suspended') == 1
if redis.call('EXISTS', own_key('ready', set)) == 1 and not suspended then
  ring(set)
end

local due = next_due()
local reply = {known, due and seconds_until(due, now) or '', waits_for_code}
for i = 5 + count, #ARGV do
  local id = redis.call('HGET', worker_key(ARGV[i]), 'current_job')
  if id and id ~= '' and redis.call('HGET', job_key(id), 'w:cancel') then reply[#reply + 1] = id end
end
return reply
