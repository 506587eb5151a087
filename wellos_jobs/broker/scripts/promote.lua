-- promote: let a delayed job run now.
-- ARGV: iso time · id
-- Returns 1, or 0 if the job is not delayed.
-- Includes: bell, lanes, limits, lifecycle

local iso, id = ARGV[1], ARGV[2]
local h = read_job(id)
if h.status ~= 'scheduled' then return 0 end

local _, text_now = clock()
redis.call('ZREM', DUE, id)
redis.call('ZREM', rq_key('scheduled', h.queue), id)
make_ready(id, h, h.queue, iso, text_now)
return 1
