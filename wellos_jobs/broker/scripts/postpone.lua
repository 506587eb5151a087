-- postpone: take an entry of rq-scheduler's set in hand, for a while. ARGV: key of the set · entry id · the score it was
-- read with · seconds. Returns 1, or 0 when the entry was changed or taken meanwhile.
local key, id, score = ARGV[1], ARGV[2], ARGV[3]
local held = redis.call('ZSCORE', key, id)
if not held or tonumber(held) ~= tonumber(score) then return 0 end
local now = clock()
redis.call('ZADD', key, now + tonumber(ARGV[4]), id)
return 1
