-- rotate: store re-encrypted data in job hashes, each only if its data is still what was read. May
-- be resent.
-- ARGV: for each job its id, the old data and the new data
-- Returns the number of jobs changed.

local changed = 0
for i = 1, #ARGV, 3 do
  local key, old, new = job_key(ARGV[i]), ARGV[i + 1], ARGV[i + 2]
  if redis.call('HGET', key, 'data') == old then
    redis.call('HSET', key, 'data', new)
    changed = changed + 1
  end
end
return changed
