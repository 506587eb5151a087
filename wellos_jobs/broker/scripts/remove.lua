-- remove: take a job out of its queue, through RQ's API. One of ours is canceled by that: a job
-- must be in a structure.
-- ARGV: iso time · id · queue
-- Returns the number of list entries removed.
-- Includes: bell, lanes, limits, lifecycle

local iso, id, queue = ARGV[1], ARGV[2], ARGV[3]
local h = read_job(id)
local removed = 0
for _, lane in ipairs(lanes_of(queue)) do
  removed = removed + leave_lane(id, lane)
end

if removed > 0 and h.status == 'queued' and not h.foreign then
  finish_canceled(id, h, iso, '{"message":"removed from its queue"}')
end
return removed
