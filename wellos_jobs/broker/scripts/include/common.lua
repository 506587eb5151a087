-- common: shared by all scripts and loaded in front of each of them. A script names its further
-- includes: they are run again with each call, so it takes only what it needs.
--
-- KEYS[1] is RQ's key prefix. Scripts run on one primary (a check refuses Cluster), so keys are
-- built here. Keys stand in broker/keys.py as well, fields of a job's hash in broker/job_hash.py;
-- tests compare them.

local P = KEYS[1]
local W = P .. ':wellos:'

local FAR = '4102444800' -- year 2100: RQ's cleanup never reaches it, yet RQ can print the date

local EVENTS = W .. 'events'
local DUE = W .. 'due'
local LEASES = W .. 'leases'

-- RQ's key of a family, such as `rq:wip:<queue>`, and ours, such as `rq:wellos:ready:<queue set>`.
local function rq_key(family, name) return P .. ':' .. family .. ':' .. name end
local function own_key(family, name) return W .. family .. ':' .. name end

local function job_key(id) return P .. ':job:' .. id end
local function worker_key(name) return P .. ':worker:' .. name end

local function priorities() return {'1', '3', '5', '7', '10'} end

local function lane_key(queue, priority)
  if tostring(priority) == '5' then return P .. ':queue:' .. queue end
  return P .. ':queue:' .. queue .. ':p' .. priority
end

-- Return the arguments of the script by these names, in the order of ARGV.
local function arguments(names)
  local found = {}
  for i, name in ipairs(names) do found[name] = ARGV[i] end
  return found
end

-- The Redis clock in seconds: as a number to compare, and as text to store (a Lua number would lose
-- digits).
local function clock()
  local t = redis.call('TIME')
  local text = t[1] .. '.' .. string.format('%06d', t[2])
  return tonumber(text), text
end

local function seconds_until(at, now)
  return string.format('%.3f', math.max(0, tonumber(at) - now))
end

-- Append an event to the stream: every transition has exactly one. `detail` is JSON text, or nil.
local function event(name, id, h, detail)
  redis.call('XADD', EVENTS, '*', 'e', name, 'id', id, 'n', h.name, 'q', h.queue, 'a', h.attempt,
    'w', h.worker, 'db', h.db, 'g', h.gen, 'd', detail or '')
end

-- Return a field of a job's hash; false if it is missing, or if the key holds another type.
local function field(id, name)
  local v = redis.pcall('HGET', job_key(id), name)
  return type(v) == 'string' and v
end

-- Return what scripts need to know of a job. A key of another type counts as a deleted job: it has
-- no status.
local function head(id)
  local v = redis.pcall('HMGET', job_key(id), 'status', 'origin', 'w:name', 'w:prio', 'w:attempt',
    'w:max', 'w:db', 'w:gen', 'w:run', 'worker_name', 'w:cancel', 'w:limits', 'w:parked')
  if v.err then v = {} end

  return {
    status = v[1],
    queue = v[2] or '',
    name = v[3] or '',
    priority = v[4] or '5',
    attempt = tonumber(v[5] or '0') or 0,
    max = tonumber(v[6] or '3') or 3,
    db = v[7] or '',
    gen = v[8] or '0',
    run = v[9],
    worker = v[10] or '',
    cancel = v[11],
    limits = v[12],
    parked = v[13],
    foreign = not v[3],
  }
end

-- Wake one idle worker of a queue set. A bell holds at most one token.
local function ring(set)
  local bell = own_key('bell', set)
  if redis.call('LLEN', bell) == 0 then redis.call('RPUSH', bell, '1') end
end

local function ring_all(queue)
  for _, set in ipairs(redis.call('SMEMBERS', own_key('sets', queue))) do ring(set) end
end

-- Tell every registered queue set that this lane has work, unless the queue is paused.
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
-- it waits stays. A queue that is no longer fair still gives turns until no job waits for one:
-- later jobs overtake none.
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

-- Whether a member of a sorted set still has the score with which the caller read it.
local function has_score(key, member, score)
  local current = redis.call('ZSCORE', key, member)
  return current and tonumber(current) == tonumber(score)
end
