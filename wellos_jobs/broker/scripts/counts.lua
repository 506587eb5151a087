-- counts: what stands in Redis for each queue. Reads only. ARGV: queue names
-- Returns for each queue {waiting, active, delayed, blocked, seconds the oldest has waited ('' = nothing waits), paused}
local now = clock()
local reply = {}
for i = 1, #ARGV do
  local queue = ARGV[i]
  local waiting, oldest = 0, nil
  for _, priority in ipairs({'1', '3', '5', '7', '10'}) do
    local key = lane_key(queue, priority)
    local length = lane_length(key)
    if length > 0 then
      waiting = waiting + length
      local first = redis.call('LINDEX', key, 0)
      local since = first and field(first, 'w:since')
      if since and (not oldest or tonumber(since) < oldest) then oldest = tonumber(since) end
    end
  end
  local parked = W .. 'parked_of:' .. queue
  local since = redis.call('ZRANGE', parked, 0, 0, 'WITHSCORES')[2]
  if since and (not oldest or tonumber(since) < oldest) then oldest = tonumber(since) end
  waiting = waiting + redis.call('ZCARD', parked)
  reply[i] = {waiting, redis.call('ZCARD', P .. ':wip:' .. queue), redis.call('ZCARD', P .. ':scheduled:' .. queue),
    redis.call('ZCARD', P .. ':deferred:' .. queue), oldest and string.format('%.3f', math.max(0, now - oldest)) or '',
    redis.call('HEXISTS', W .. 'paused', queue)}
end
return reply
