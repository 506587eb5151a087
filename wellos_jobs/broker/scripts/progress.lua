-- progress: store the progress of a run, if it still holds the claim.
-- ARGV: id · run · percent · message · detail (JSON of the event)
-- Returns 1, or 0 for a stale run.

local id, run, percent, message, detail = unpack(ARGV)
local h = read_job(id)
if h.run ~= run then return 0 end

redis.call('HSET', job_key(id), 'w:progress', percent, 'w:message', message)
event('progressed', id, h, detail)
return 1
