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

-- Whether the workers of a queue set are known not to know the code of a job.
local function is_unknown_to(set, code)
  return redis.call('HEXISTS', own_key('unknown', set), code) == 1
end

-- Mark a lane as ready in every registered queue set, unless its queue is paused. The lane of jobs
-- that wait for code is announced to those alone that may know it, and comes first: its jobs are the
-- older ones.
local function announce(lane, text_now)
  local priority, queue, code = parts_of(lane)
  if redis.call('HEXISTS', W .. 'paused', queue) == 1 then return end

  local score = tonumber(priority) * 100000 - (code and 0.5 or 0)
  for _, set in ipairs(redis.call('SMEMBERS', own_key('sets', queue))) do
    local place = redis.call('HGET', own_key('set', set), queue)
    if not place then -- the set has expired: no worker has used it for a long time
      redis.call('SREM', own_key('sets', queue), set)
      redis.call('DEL', own_key('ready', set), own_key('age', set), own_key('bell', set))
    elseif not code or not is_unknown_to(set, code) then
      redis.call('ZADD', own_key('ready', set), score + tonumber(place), lane)
      redis.call('ZADD', own_key('age', set), 'NX', text_now, lane)
      ring(set)
    end
  end
end

-- Announce all lanes of a queue that hold jobs.
local function announce_lanes(queue, text_now)
  for _, lane in ipairs(lanes_of(queue)) do
    if redis.call('EXISTS', lane_key(lane)) == 1 then announce(lane, text_now) end
  end
end
