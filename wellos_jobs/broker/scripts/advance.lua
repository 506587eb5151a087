-- advance: bring waiting jobs to where their rows are, if this Redis has older data: no attempt gets
-- the number of one that has ended, and a retry waits until it is due.
-- ARGV: for each job its id, its generation, the number of attempts that have ended, and when it is
--   due (seconds; '' if it may run)
-- Returns the number of jobs changed.
-- Includes: bell, lanes, limits

local now = clock()

-- Take a job out of the structure in which it waits.
local function leave(id, h)
  if h.status == 'queued' then
    leave_lane(id, lane_of(h))
    if h.parked then unpark_one(id, h) end
  else
    redis.call('ZREM', DUE, id)
    redis.call('ZREM', rq_key('scheduled', h.queue), id)
  end
end

local changed = 0
for i = 1, #ARGV, 4 do
  local id, generation, attempts, due = ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2]), ARGV[i + 3]
  local h = read_job(id)
  local waits = h.status == 'queued' or h.status == 'scheduled'
  if waits and h.gen == generation and h.attempt < attempts then
    redis.call('HSET', job_key(id), 'w:attempt', attempts)
    if due ~= '' and tonumber(due) > now then
      leave(id, h)
      redis.call('HSET', job_key(id), 'status', 'scheduled')
      to_delayed(id, h.queue, due)
    end
    changed = changed + 1
  end
end
return changed
