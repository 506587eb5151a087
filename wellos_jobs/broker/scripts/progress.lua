-- progress: how far a run has come, from the run that holds the claim.
-- ARGV: id · run · percent · message · detail (JSON of the event). Returns 1, or 0 for a stale run.
local id, run = ARGV[1], ARGV[2]
local h = head(id)
if h.run ~= run then return 0 end
redis.call('HSET', job_key(id), 'w:progress', ARGV[3], 'w:message', ARGV[4])
event('progressed', id, h, ARGV[5])
return 1
