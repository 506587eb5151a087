-- remove: take a job out of its queue, through RQ's API. One of ours is canceled by that: a job
-- must be in a structure.
-- ARGV: iso time · id · queue
-- Returns the number of list entries removed.
-- Includes: bell, lanes, limits, lifecycle

local iso, id, queue = ARGV[1], ARGV[2], ARGV[3]
local removed = 0
for _, priority in ipairs(priorities()) do
  removed = removed + leave_lane(id, queue, priority)
end

local h = read_job(id)
if removed > 0 and h.status == 'queued' and not h.foreign then
  finish_canceled(id, h, iso, '{"message":"removed from its queue"}')
end
return removed
