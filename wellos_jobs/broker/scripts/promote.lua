-- promote: a delayed job may run now.
-- ARGV: iso time · id. Returns 1, or 0 when the job is not delayed.
local iso, id = ARGV[1], ARGV[2]
local now, text_now = clock()
local h = head(id)
if h.status ~= 'scheduled' then return 0 end
redis.call('ZREM', DUE, id)
redis.call('ZREM', P .. ':scheduled:' .. h.queue, id)
redis.call('HSET', job_key(id), 'status', 'queued', 'enqueued_at', iso)
to_lane(id, h.queue, h.priority, text_now)
h.worker = ''
event('enqueued', id, h)
return 1
