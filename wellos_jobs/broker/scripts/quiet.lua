-- quiet: let a worker, or all workers of a supervisor, take no more jobs, or take them again.
-- ARGV: worker or supervisor · its name or token · '1' to be quiet, '' to take jobs again
-- Returns how many workers and supervisors that was said to; 0 when Redis does not know it.
local function tell(key, field)
  if ARGV[3] == '1' then redis.call('HSET', key, field, '1') else redis.call('HDEL', key, field) end
end

if ARGV[1] == 'worker' then
  if redis.call('HEXISTS', worker_key(ARGV[2]), 'birth') == 0 then return 0 end
  tell(worker_key(ARGV[2]), 'w:quiet')
  return 1
end
local supervisor = W .. 'supervisor:' .. ARGV[2]
if redis.call('HEXISTS', supervisor, 'facts') == 0 then return 0 end
tell(supervisor, 'quiet')
local told = 1
for _, key in ipairs(redis.call('SMEMBERS', P .. ':workers')) do
  if redis.call('HGET', key, 'w:supervisor') == ARGV[2] then
    tell(key, 'w:quiet')
    told = told + 1
  end
end
return told
