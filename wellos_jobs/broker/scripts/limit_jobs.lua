-- limit_jobs: which jobs hold a limit, and which are first in line. Read-only.
-- ARGV: how many of each at most · ids of limits
-- Returns for each limit {holders, waiting jobs}, each job as {id, name, waiting since, started at}

local most = tonumber(ARGV[1])

local function rows(ids)
  local found = {}
  for i, id in ipairs(ids) do
    local v = redis.call('HMGET', job_key(id), 'w:name', 'w:since', 'started_at')
    found[i] = {id, v[1] or '', v[2] or '', v[3] or ''}
  end
  return found
end

local function holders_of(id)
  local kind = string.sub(id, 1, 2)
  if kind == 'c:' then return redis.call('ZRANGE', own_key('running', id), 0, most - 1) end
  if kind == 'b:' then return {redis.call('HGET', own_key('breaker', id), 'probe') or nil} end
  return {}
end

local reply = {}
for i = 2, #ARGV do
  local id = ARGV[i]
  local waiting = redis.call('ZRANGE', own_key('parked', id), 0, most - 1)
  reply[#reply + 1] = {rows(holders_of(id)), rows(waiting)}
end
return reply
