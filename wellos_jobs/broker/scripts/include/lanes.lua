-- lanes: put jobs into the lanes of queues and take them out. Needs common and bell.

-- Fair queues. Behind the list of a lane of a fair queue is a sorted set in which organizations
-- take turns: the score of a job is one more than the lane's last turn and its organization's last
-- turn. The list holds only a window of jobs, so that the one job of a small organization soon
-- reaches it, even when 100,000 of a big one are waiting.
local WINDOW = 4

local function refill(lane)
  local turns = own_key('turns', lane)
  if redis.call('EXISTS', turns) == 0 then return end

  while redis.call('LLEN', lane) < WINDOW do
    local next_turn = redis.call('ZPOPMIN', turns)
    if not next_turn[1] then return end
    redis.call('HSET', turns .. ':last', 'lane', next_turn[2])
    redis.call('RPUSH', lane, next_turn[1])
  end
end

local function take_turn(lane, id, organization)
  local turns = own_key('turns', lane)
  local last = redis.call('HMGET', turns .. ':last', 'lane', 'of:' .. organization)
  local turn = math.max(tonumber(last[1] or '0'), tonumber(last[2] or '0')) + 1

  redis.call('HSET', turns .. ':last', 'of:' .. organization, turn)
  redis.call('ZADD', turns, turn, id)
  refill(lane)
end

local function lane_length(lane)
  return redis.call('LLEN', lane) + redis.call('ZCARD', own_key('turns', lane))
end

-- When a lane is empty, all organizations start equal again.
local function forget_turns(lane)
  if lane_length(lane) == 0 then redis.call('DEL', own_key('turns', lane) .. ':last') end
end

-- Remove a job from its lane. Returns the number of entries removed.
local function leave_lane(id, queue, priority)
  local lane = lane_key(queue, priority)
  local removed = redis.call('LREM', lane, 0, id) + redis.call('ZREM', own_key('turns', lane), id)
  refill(lane)
  forget_turns(lane)
  return removed
end

-- Put a job into its lane; its hash already says 'queued'. With `keep_since` the time since which
-- it waits stays. A queue that is no longer fair keeps taking turns until its turn list is empty,
-- so later jobs do not overtake.
local function to_lane(id, queue, priority, text_now, in_front, keep_since)
  local lane = lane_key(queue, priority)
  redis.call('SADD', P .. ':queues', lane)
  if not keep_since then redis.call('HSET', job_key(id), 'w:since', text_now) end

  local turns = own_key('turns', lane)
  local fair = not in_front
    and (redis.call('HEXISTS', W .. 'fair', queue) == 1 or redis.call('EXISTS', turns) == 1)
  if fair then
    take_turn(lane, id, redis.call('HGET', job_key(id), 'w:org') or '')
  else
    redis.call(in_front and 'LPUSH' or 'RPUSH', lane, id)
  end

  announce(queue, priority, text_now)
end

-- Delay a job until `at` (seconds, text); its hash already says 'scheduled'.
local function to_delayed(id, queue, at)
  redis.call('ZADD', DUE, at, id)
  redis.call('ZADD', rq_key('scheduled', queue), at, id)
  -- Idle workers sleep until a later job is due: wake one of each set.
  if redis.call('ZRANK', DUE, id) == 0 then ring_all(queue) end
end
