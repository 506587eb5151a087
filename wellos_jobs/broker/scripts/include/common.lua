-- lib: what every script shares. It is put in front of each of them when it is loaded.
-- KEYS[1] is RQ's key prefix. Scripts run on one primary (Cluster is refused by a check), so keys are built here.
local P = KEYS[1]
local W = P .. ':wellos:'
local FAR = '4102444800' -- 2100: later than any cleanup by RQ's registries, yet still a date they can print
local EVENTS = W .. 'events'
local DUE = W .. 'due'
local LEASES = W .. 'leases'

local function job_key(id) return P .. ':job:' .. id end
local function worker_key(name) return P .. ':worker:' .. name end

local function lane_key(queue, priority)
  if tostring(priority) == '5' then return P .. ':queue:' .. queue end
  return P .. ':queue:' .. queue .. ':p' .. priority
end

-- The Redis clock in seconds: as a number to compare, as text to store (a Lua number would lose digits).
local function clock()
  local t = redis.call('TIME')
  local text = t[1] .. '.' .. string.format('%06d', t[2])
  return tonumber(text), text
end

-- One transition, one event. `detail` is JSON text, or '' for none.
local function event(name, id, h, detail)
  redis.call('XADD', EVENTS, '*', 'e', name, 'id', id, 'n', h.name, 'q', h.queue, 'a', h.attempt,
    'w', h.worker, 'db', h.db, 'g', h.gen, 'd', detail or '')
end

-- A field of a job's hash; false also when somebody has put something else under its key.
local function field(id, name)
  local v = redis.pcall('HGET', job_key(id), name)
  return type(v) == 'string' and v
end

-- What a job is, and where. Something else under its key counts as a job that was deleted.
local function head(id)
  local v = redis.pcall('HMGET', job_key(id), 'status', 'origin', 'w:name', 'w:prio', 'w:attempt', 'w:max', 'w:db',
    'w:gen', 'w:run', 'worker_name', 'w:cancel', 'w:limits', 'w:parked')
  if v.err then v = {} end
  return {
    status = v[1], queue = v[2] or '', name = v[3] or '', priority = v[4] or '5', attempt = tonumber(v[5] or '0') or 0,
    max = tonumber(v[6] or '3') or 3, db = v[7] or '', gen = v[8] or '0', run = v[9], worker = v[10] or '',
    cancel = v[11], limits = v[12], parked = v[13], foreign = not v[3],
  }
end

local function ring(set)
  local bell = W .. 'bell:' .. set
  if redis.call('LLEN', bell) == 0 then redis.call('RPUSH', bell, '1') end
end

-- Tell every registered set of queues that this lane has work, unless the queue is paused.
local function announce(queue, priority, text_now)
  if redis.call('HEXISTS', W .. 'paused', queue) == 1 then return end
  for _, set in ipairs(redis.call('SMEMBERS', W .. 'sets:' .. queue)) do
    local place = redis.call('HGET', W .. 'set:' .. set, queue)
    if place then
      local lane = priority .. '|' .. queue
      redis.call('ZADD', W .. 'ready:' .. set, tonumber(priority) * 100000 + tonumber(place), lane)
      redis.call('ZADD', W .. 'age:' .. set, 'NX', text_now, lane)
      ring(set)
    else -- nobody has worked on this set for long: forget it
      redis.call('SREM', W .. 'sets:' .. queue, set)
      redis.call('DEL', W .. 'ready:' .. set, W .. 'age:' .. set, W .. 'bell:' .. set)
    end
  end
end

-- Fair turns. Behind the list of a lane of a fair queue stands a sorted set, where the organizations take turns: the score
-- of a job is one more than the lane's last turn and its organization's last. Only a window of jobs stands in the list, so
-- that the one job of a small organization is never far from it, though 100,000 of a big one wait.
local WINDOW = 4

local function turns_of(key) return W .. 'turns:' .. key end

local function refill(key)
  local turns = turns_of(key)
  if redis.call('EXISTS', turns) == 0 then return end
  while redis.call('LLEN', key) < WINDOW do
    local next_turn = redis.call('ZPOPMIN', turns)
    if not next_turn[1] then return end
    redis.call('HSET', turns .. ':last', 'lane', next_turn[2])
    redis.call('RPUSH', key, next_turn[1])
  end
end

local function take_turn(key, id, organization)
  local turns = turns_of(key)
  local last = redis.call('HMGET', turns .. ':last', 'lane', 'of:' .. organization)
  local turn = math.max(tonumber(last[1] or '0'), tonumber(last[2] or '0')) + 1
  redis.call('HSET', turns .. ':last', 'of:' .. organization, turn)
  redis.call('ZADD', turns, turn, id)
  refill(key)
end

local function lane_length(key) return redis.call('LLEN', key) + redis.call('ZCARD', turns_of(key)) end

-- Once nobody waits in a lane, all are equal again.
local function forget_turns(key)
  if lane_length(key) == 0 then redis.call('DEL', turns_of(key) .. ':last') end
end

-- Take a job out of its lane, wherever it stands there. Returns how many entries there were.
local function leave_lane(id, queue, priority)
  local key = lane_key(queue, priority)
  local removed = redis.call('LREM', key, 0, id) + redis.call('ZREM', turns_of(key), id)
  refill(key)
  forget_turns(key)
  return removed
end

-- Put a job into its lane. Its hash already says 'queued'. `waited` leaves the moment since which it waits alone.
-- In a queue that is fair no more turns are taken until nobody waits for one: who comes later passes nobody by.
local function to_lane(id, queue, priority, text_now, in_front, waited)
  local key = lane_key(queue, priority)
  redis.call('SADD', P .. ':queues', key)
  if not waited then redis.call('HSET', job_key(id), 'w:since', text_now) end
  local fair = not in_front and (redis.call('HEXISTS', W .. 'fair', queue) == 1
    or redis.call('EXISTS', turns_of(key)) == 1)
  if fair then
    take_turn(key, id, redis.call('HGET', job_key(id), 'w:org') or '')
  else
    redis.call(in_front and 'LPUSH' or 'RPUSH', key, id)
  end
  announce(queue, priority, text_now)
end

-- Put a job aside until `at` (seconds, text). Its hash already says 'scheduled'.
local function to_delayed(id, queue, at)
  redis.call('ZADD', DUE, at, id)
  redis.call('ZADD', P .. ':scheduled:' .. queue, at, id)
  if redis.call('ZRANK', DUE, id) == 0 then -- the idle workers sleep until a later time: wake one
    for _, set in ipairs(redis.call('SMEMBERS', W .. 'sets:' .. queue)) do ring(set) end
  end
end
