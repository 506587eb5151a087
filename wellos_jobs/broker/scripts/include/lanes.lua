-- lanes: put jobs into the lanes of queues and take them out. Needs common and bell.

-- Fair queues. Behind the list of a lane of a fair queue is a sorted set in which organizations
-- take turns: the score of a job is one more than the lane's last turn and its organization's last
-- turn. The list holds only a window of jobs, so that the one job of a small organization soon
-- reaches it, even when 100,000 of a big one are waiting.
local WINDOW = 4

-- Up to `leave_lane` the functions take the key of a lane.

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

-- Jobs that wait for code. A job that its worker does not know leaves its lane for one of jobs that
-- need the same code, in the same queue and at the same priority: a code lane, which `w:held` names.
-- Only workers that may know it take jobs from there. `held:<lane>` has the times since which they
-- wait for it.

local function enter_code_lane(id, lane, queue, text_now)
  redis.call('SADD', own_key('code_lanes', queue), lane)
  redis.call('ZADD', own_key('held', lane), text_now, id)
  redis.call('HSET', job_key(id), 'w:held', lane)
end

-- An entry has left a code lane.
local function leave_code_lane(id, lane, queue)
  redis.call('ZREM', own_key('held', lane), id)
  if field(id, 'w:held') == lane then redis.call('HDEL', job_key(id), 'w:held', 'w:unknown') end
  if lane_length(lane_key(lane)) == 0 then
    redis.call('SREM', own_key('code_lanes', queue), lane)
  end
end

-- Return the name of the lane in which a job waits.
local function lane_of(h) return h.held or lane_name(h.queue, h.priority) end

-- Remove a job from a lane. Returns the number of entries removed.
local function leave_lane(id, lane)
  local key = lane_key(lane)
  local removed = redis.call('LREM', key, 0, id) + redis.call('ZREM', own_key('turns', key), id)
  refill(key)
  forget_turns(key)

  local _, queue, code = parts_of(lane)
  if code then leave_code_lane(id, lane, queue) end
  return removed
end

-- Put a job into its lane; its hash already says 'queued'. With `keep_since` the time since which
-- it waits stays; with `code` it waits for code. A queue that is no longer fair keeps taking turns
-- until its turn list is empty, so later jobs do not overtake.
local function to_lane(id, queue, priority, text_now, in_front, keep_since, code)
  local lane = lane_name(queue, priority, code)
  local key = lane_key(lane)
  if code then
    enter_code_lane(id, lane, queue, text_now)
  else
    redis.call('SADD', P .. ':queues', key)
  end
  if not keep_since then redis.call('HSET', job_key(id), 'w:since', text_now) end

  local turns = own_key('turns', key)
  local fair = not in_front
    and (redis.call('HEXISTS', W .. 'fair', queue) == 1 or redis.call('EXISTS', turns) == 1)
  if fair then
    take_turn(key, id, redis.call('HGET', job_key(id), 'w:org') or '')
  else
    redis.call(in_front and 'LPUSH' or 'RPUSH', key, id)
  end

  announce(lane, text_now)
end

-- Delay a job until `at` (seconds, text); its hash already says 'scheduled'.
local function to_delayed(id, queue, at)
  redis.call('ZADD', DUE, at, id)
  redis.call('ZADD', rq_key('scheduled', queue), at, id)
  -- Idle workers sleep until a later job is due: wake one of each set.
  if redis.call('ZRANK', DUE, id) == 0 then ring_all(queue) end
end
