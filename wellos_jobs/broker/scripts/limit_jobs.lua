-- limit_jobs: who holds some limits, and who is first in line. Reads only. ARGV: how many of each · ids of limits
-- Returns for each limit {{id, name, since of a holder...}, {id, name, since of a waiting job...}}
local most = tonumber(ARGV[1])

local function named(ids, row)
  for _, id in ipairs(ids) do
    local v = redis.call('HMGET', job_key(id), 'w:name', 'w:since', 'started_at')
    row[#row + 1] = {id, v[1] or '', v[2] or '', v[3] or ''}
  end
  return row
end

local reply = {}
for i = 2, #ARGV do
  local id = ARGV[i]
  local holders = string.sub(id, 1, 2) == 'c:' and redis.call('ZRANGE', running_in(id), 0, most - 1) or {}
  if string.sub(id, 1, 2) == 'b:' then
    local probe = redis.call('HGET', breaker_of(id), 'probe')
    if probe then holders = {probe} end
  end
  reply[#reply + 1] = {named(holders, {}), named(redis.call('ZRANGE', parked_in(id), 0, most - 1), {})}
end
return reply
