-- limits: which job may start now. Needs lib.
-- A limit is {id, n, p, w}: with a period p at most n starts in any p seconds, a start counting w; without one at most n
-- at once; with b it is a circuit breaker {id, b failures, within, reset}. A job that finds no room is parked, out of its lane but still waiting, and comes back to the front of its lane
-- when there is room: when a run ends, or when the limit's gate opens, at the time at which there will be room.
local GATES = W .. 'gates'
local LOOK_AGAIN = 5 -- seconds after which a full limit is looked at again, in case a slot was lost

local function parked_in(limit) return W .. 'parked:' .. limit end
local function running_in(limit) return W .. 'running:' .. limit end
local function starts_of(limit) return W .. 'starts:' .. limit end

-- The number in force: set by a person, else the job's own.
local function most(limit)
  return tonumber(redis.call('HGET', W .. 'limits', limit.id) or limit.n)
end

-- Take back the slots of jobs that no longer run, as when somebody deleted a hash.
local function scrub(key)
  for _, id in ipairs(redis.call('ZRANGE', key, 0, 99)) do
    if not redis.call('ZSCORE', LEASES, id) then redis.call('ZREM', key, id) end
  end
end

-- A breaker is open from the moment its failures are too many until a probe succeeds; only its hash says so.
local function breaker_of(limit) return W .. 'breaker:' .. limit end
local function failures_of(limit) return W .. 'failures:' .. limit end

local function breaker_room(limit, now)
  local v = redis.call('HMGET', breaker_of(limit.id), 'until', 'probe')
  if not v[1] then return 1000 end
  if v[2] or now < tonumber(v[1]) then return 0 end
  return 1 -- time for a probe
end

-- How many more may start now.
local function room(limit, now)
  if limit.b then return breaker_room(limit, now) end
  if limit.p then
    redis.call('ZREMRANGEBYSCORE', starts_of(limit.id), '-inf', now - limit.p)
    return most(limit) - redis.call('ZCARD', starts_of(limit.id))
  end
  local key = running_in(limit.id)
  local left = most(limit) - redis.call('ZCARD', key)
  if left <= 0 then
    scrub(key)
    left = most(limit) - redis.call('ZCARD', key)
  end
  return left
end

-- Set the moment at which a limit is looked at again: when the start that is in the way leaves the period.
local function set_gate(limit, now)
  local at = now + LOOK_AGAIN
  if limit.b then
    local v = redis.call('HMGET', breaker_of(limit.id), 'until', 'probe')
    if v[1] and not v[2] then at = math.max(tonumber(v[1]), now) end
  end
  if limit.p then
    local missing = (limit.w or 1) - room(limit, now)
    local start = redis.call('ZRANGE', starts_of(limit.id), math.max(0, missing - 1), math.max(0, missing - 1), 'WITHSCORES')
    at = start[2] and math.max(tonumber(start[2]) + limit.p, now + 0.005) or now + 0.05
  end
  redis.call('ZADD', GATES, string.format('%.6f', at), limit.id)
end

local function park(id, h, limit, now)
  local since = tonumber(redis.call('HGET', job_key(id), 'w:since') or now)
  redis.call('ZADD', parked_in(limit.id), string.format('%.6f', tonumber(h.priority) * 1e11 + since), id)
  redis.call('SADD', W .. 'parked_of:' .. h.queue, id)
  redis.call('HSET', job_key(id), 'w:parked', limit.id)
  redis.call('HSET', W .. 'gated', limit.id, cjson.encode(limit))
  set_gate(limit, now)
end

local function unpark_one(id, h)
  redis.call('ZREM', parked_in(h.parked), id)
  redis.call('SREM', W .. 'parked_of:' .. h.queue, id)
  redis.call('HDEL', job_key(id), 'w:parked')
end

-- Let the longest waiting of the most urgent parked jobs come back to the front of their lanes, `count` of them.
local function unpark(limit_id, count, text_now)
  local ids = redis.call('ZRANGE', parked_in(limit_id), 0, count - 1)
  for i = #ids, 1, -1 do
    local h = head(ids[i])
    h.parked = h.parked or limit_id
    unpark_one(ids[i], h)
    if h.status == 'queued' then to_lane(ids[i], h.queue, h.priority, text_now, true, true) end
  end
end

-- May this job start? Then it counts in all its limits; else it is parked at the first that is full.
local function admit(id, h, run, now)
  local limits = cjson.decode(h.limits)
  for _, limit in ipairs(limits) do
    if room(limit, now) < (limit.w or 1) then
      park(id, h, limit, now)
      return false
    end
  end
  for _, limit in ipairs(limits) do
    if limit.b then
      if redis.call('EXISTS', breaker_of(limit.id)) == 1 then redis.call('HSET', breaker_of(limit.id), 'probe', id) end
    elseif limit.p then
      for i = 1, limit.w or 1 do redis.call('ZADD', starts_of(limit.id), string.format('%.6f', now), run .. ':' .. i) end
      redis.call('EXPIRE', starts_of(limit.id), math.ceil(limit.p) + 60)
    else
      redis.call('ZADD', running_in(limit.id), string.format('%.6f', now), id)
    end
  end
  return true
end

local function open_breaker(limit, now)
  local key = breaker_of(limit.id)
  redis.call('HSETNX', key, 'since', string.format('%.3f', now))
  redis.call('HSET', key, 'until', string.format('%.6f', now + limit.reset))
  redis.call('HDEL', key, 'probe')
  redis.call('DEL', failures_of(limit.id))
  if redis.call('EXISTS', parked_in(limit.id)) == 1 then set_gate(limit, now) end
end

local function close_breaker(limit_id, text_now)
  redis.call('DEL', breaker_of(limit_id), failures_of(limit_id))
  unpark(limit_id, 1000, text_now)
  if redis.call('EXISTS', parked_in(limit_id)) == 1 then redis.call('ZADD', GATES, '0', limit_id) end
end

-- What the end of a run says about the dependency: ok, fail or nothing. A probe that says nothing leaves it to another.
local function judge(limit, id, verdict, now, text_now)
  local key = breaker_of(limit.id)
  local probes = redis.call('HGET', key, 'probe') == id
  if verdict == 'ok' then
    if probes then close_breaker(limit.id, text_now) end
  elseif verdict == 'fail' then
    local failures = failures_of(limit.id)
    redis.call('ZADD', failures, string.format('%.6f', now), id .. ':' .. text_now)
    redis.call('ZREMRANGEBYSCORE', failures, '-inf', now - limit.within)
    redis.call('EXPIRE', failures, math.ceil(limit.within) + 60)
    local open = redis.call('EXISTS', key) == 1
    if probes or not open and redis.call('ZCARD', failures) >= limit.b then open_breaker(limit, now) end
  elseif probes then
    redis.call('HDEL', key, 'probe')
    set_gate(limit, now)
  end
end

-- A run has ended: its slots are free, and the next in line may come. `verdicts` are those of its breakers, by id; none
-- when its worker died.
local function free(id, limits, verdicts, now, text_now)
  for _, limit in ipairs(cjson.decode(limits)) do
    if limit.b then
      judge(limit, id, verdicts[limit.id], now, text_now)
    elseif not limit.p and redis.call('ZREM', running_in(limit.id), id) == 1 then unpark(limit.id, 1, text_now) end
  end
end

-- Look again at the limits whose time has come.
local function open_gates(now, text_now)
  for _, limit_id in ipairs(redis.call('ZRANGEBYSCORE', GATES, '-inf', now, 'LIMIT', 0, 20)) do
    redis.call('ZREM', GATES, limit_id)
    local text = redis.call('HGET', W .. 'gated', limit_id)
    if text then
      local limit = cjson.decode(text)
      local left = room(limit, now)
      if left > 0 then unpark(limit_id, left, text_now) end
      if redis.call('EXISTS', parked_in(limit_id)) == 1 then
        set_gate(limit, now)
      else
        redis.call('HDEL', W .. 'gated', limit_id)
      end
    end
  end
end
