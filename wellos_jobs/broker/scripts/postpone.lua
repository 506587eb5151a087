-- postpone: reserve an entry of rq-scheduler's set for a while, by moving its time.
-- ARGV: key of the set · entry id · the score it was read with · seconds
-- Returns 1, or 0 if the entry was changed or taken since.

local key, id, score, seconds = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
if not has_score(key, id, score) then return 0 end

redis.call('ZADD', key, clock() + seconds, id)
return 1
