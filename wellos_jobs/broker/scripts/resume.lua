-- resume: let workers claim from a queue again.
-- ARGV: queue
-- Returns 1, or 0 if it was not paused.
-- Includes: bell

local queue = ARGV[1]
local was_paused = redis.call('HDEL', W .. 'paused', queue)
local _, text_now = clock()
announce_lanes(queue, text_now)
return was_paused
