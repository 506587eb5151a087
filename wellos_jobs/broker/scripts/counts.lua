-- counts: how many jobs of each queue are in which state. Read-only.
-- ARGV: queue names
-- Returns for each queue {waiting, active, delayed, blocked, seconds the oldest job has waited (''
-- if none waits), paused}
-- Includes: bell, lanes

local now = clock()

local function older(since, oldest)
  if since and (not oldest or tonumber(since) < oldest) then return tonumber(since) end
  return oldest
end

-- Return how many jobs of a queue wait, and since when the oldest.
local function waiting_in(queue)
  local parked = own_key('parked_of', queue)
  local count = redis.call('ZCARD', parked)
  local oldest = older(redis.call('ZRANGE', parked, 0, 0, 'WITHSCORES')[2])

  for _, name in ipairs(lanes_of(queue)) do
    local lane = lane_key(name)
    local length = lane_length(lane)
    if length > 0 then
      count = count + length
      local first = redis.call('LINDEX', lane, 0)
      oldest = older(first and field(first, 'w:since'), oldest)
    end
  end
  return count, oldest
end

local reply = {}
for i, queue in ipairs(ARGV) do
  local waiting, oldest = waiting_in(queue)
  reply[i] = {
    waiting,
    redis.call('ZCARD', rq_key('wip', queue)),
    redis.call('ZCARD', rq_key('scheduled', queue)),
    redis.call('ZCARD', rq_key('deferred', queue)),
    oldest and string.format('%.3f', math.max(0, now - oldest)) or '',
    redis.call('HEXISTS', W .. 'paused', queue),
  }
end
return reply
