-- bell: what wakes an idle worker. Needs common.
--
-- The idle workers of a queue set block on its bell, a list, until it holds a token.

-- Wake one idle worker of a queue set. A bell holds at most one token.
local function ring(set)
  local bell = own_key('bell', set)
  if redis.call('LLEN', bell) == 0 then redis.call('RPUSH', bell, '1') end
end

local function ring_all(queue)
  for _, set in ipairs(redis.call('SMEMBERS', own_key('sets', queue))) do ring(set) end
end

-- Mark a lane as ready in every registered queue set, unless its queue is paused.
local function announce(queue, priority, text_now)
  if redis.call('HEXISTS', W .. 'paused', queue) == 1 then return end

  for _, set in ipairs(redis.call('SMEMBERS', own_key('sets', queue))) do
    local place = redis.call('HGET', own_key('set', set), queue)
    if place then
      local lane = priority .. '|' .. queue
      redis.call('ZADD', own_key('ready', set), tonumber(priority) * 100000 + tonumber(place), lane)
      redis.call('ZADD', own_key('age', set), 'NX', text_now, lane)
      ring(set)
    else -- the set has expired: no worker has used it for a long time
      redis.call('SREM', own_key('sets', queue), set)
      redis.call('DEL', own_key('ready', set), own_key('age', set), own_key('bell', set))
    end
  end
end

-- Announce all lanes of a queue that hold jobs.
local function announce_lanes(queue, text_now)
  for _, priority in ipairs(priorities()) do
    if redis.call('EXISTS', lane_key(queue, priority)) == 1 then
      announce(queue, priority, text_now)
    end
  end
end
