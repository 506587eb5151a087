-- rotate: put re-encrypted data into job hashes, each only if its data is still what was read.
-- ARGV: id, old data, new data; again for each job. Returns how many were changed. A resend changes nothing.
local changed = 0
for i = 1, #ARGV, 3 do
  local key = job_key(ARGV[i])
  if redis.call('HGET', key, 'data') == ARGV[i + 1] then
    redis.call('HSET', key, 'data', ARGV[i + 2])
    changed = changed + 1
  end
end
return changed
