-- quiet: let a worker, or all workers of a supervisor, take no more jobs, or take jobs again.
-- ARGV: worker or supervisor · its name or token · '1' to be quiet, '' to take jobs again
-- Returns the number of workers and supervisors changed; 0 if the name is unknown.

local kind, name, quiet = ARGV[1], ARGV[2], ARGV[3] == '1'

local function set_quiet(key, field)
  if quiet then redis.call('HSET', key, field, '1') else redis.call('HDEL', key, field) end
end

if kind == 'worker' then
  if redis.call('HEXISTS', worker_key(name), 'birth') == 0 then return 0 end
  set_quiet(worker_key(name), 'w:quiet')
  return 1
end

local supervisor = own_key('supervisor', name)
if redis.call('HEXISTS', supervisor, 'facts') == 0 then return 0 end

set_quiet(supervisor, 'quiet')
local changed = 1
for _, key in ipairs(redis.call('SMEMBERS', P .. ':workers')) do
  if redis.call('HGET', key, 'w:supervisor') == name then
    set_quiet(key, 'w:quiet')
    changed = changed + 1
  end
end
return changed
