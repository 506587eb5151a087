-- conclude: end jobs whose rows have ended: this Redis has older data, or its copy of a job is of a
-- life before a replay. There is no event: the rows know.
-- ARGV: iso time · seconds to live · for each job its id, final status and last generation that has
--   ended
-- Returns the number of jobs ended.
-- Includes: bell, lanes, limits, lifecycle

local iso, ttl = ARGV[1], tonumber(ARGV[2])
local now = clock()
local FINAL = {finished = true, failed = true, canceled = true}

local function leave(id, h)
  if h.run then release(id, h) end
  redis.call('ZREM', LEASES, id)

  if h.status == 'queued' then
    leave_lane(id, lane_of(h))
    if h.parked then unpark_one(id, h) end
  elseif h.status == 'scheduled' then
    redis.call('ZREM', DUE, id)
    redis.call('ZREM', rq_key('scheduled', h.queue), id)
  end
end

local ended = 0
for i = 3, #ARGV, 3 do
  local id, status, generation = ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2])
  local h = read_job(id)
  local stale = h.status and not h.foreign and not FINAL[h.status]
    and (tonumber(h.gen) or 0) <= generation
  if stale then
    leave(id, h)
    finish(id, h, status, iso)
    redis.call('EXPIRE', job_key(id), ttl)
    redis.call('ZADD', rq_key(status, h.queue), string.format('%.6f', now + ttl), id)
    ended = ended + 1
  end
end
return ended
