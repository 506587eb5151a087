-- remove: foreign code takes a job out of its queue through RQ's API: a job of ours is then cancelled, for a job must not
-- be in no structure. ARGV: iso time · id · queue. Returns how many list entries there were.
local iso, id, queue = ARGV[1], ARGV[2], ARGV[3]
local removed = 0
for _, priority in ipairs({'1', '3', '5', '7', '10'}) do
  removed = removed + leave_lane(id, queue, priority)
end
local h = head(id)
if removed > 0 and h.status == 'queued' and not h.foreign then
  h.worker = ''
  finish(id, h, 'canceled', 'canceled', iso)
  event('canceled', id, h, '{"message":"removed from its queue"}')
end
return removed
