-- limits: which job may start now. Needs lanes.
--
-- A rate limit is {id, n, p, w}: at most n starts in any p seconds, each start counting w.
-- A concurrency limit is {id, n}: at most n runs at once.
-- A circuit breaker is {id, b, within, reset}: it opens after b failures within that many seconds.
--
-- A job without room is parked: it leaves its lane, still waiting, and comes back to the front of
-- its lane when there is room. That is when a run ends, or when the gate of the limit opens: the
-- time at which there will be room.

local GATES = W .. 'gates'
local PARKED_FROM = W .. 'parked_from' -- not in the hash of a job, which foreign code may delete

local LOOK_AGAIN = 5 -- seconds after which a full limit is checked again, in case a slot was lost
local SOON = 0.05 -- seconds within which unparked jobs have started
local MAX_PASSES = 32 -- how often one call may pass the room of a held job on to the next in line

-- The number in force: set by an operator, else the job's own.
local function most(limit)
  return tonumber(redis.call('HGET', W .. 'limits', limit.id) or limit.n)
end

-- Take back the slots of jobs that no longer run, for example because their hash was deleted.
local function scrub(key)
  for _, id in ipairs(redis.call('ZRANGE', key, 0, 99)) do
    if not redis.call('ZSCORE', LEASES, id) then redis.call('ZREM', key, id) end
  end
end

-- A breaker is open while its hash exists: from the last failure it allows until a probe succeeds.
local function breaker_room(limit, now)
  local v = redis.call('HMGET', own_key('breaker', limit.id), 'until', 'probe')
  local open_until, probe = v[1], v[2]
  if not open_until then return 1000 end

  if probe and redis.call('ZSCORE', LEASES, probe) then return 0 end
  -- The hash of the probe was deleted while it ran.
  if probe then redis.call('HDEL', own_key('breaker', limit.id), 'probe') end
  return now < tonumber(open_until) and 0 or 1 -- time for a probe
end

-- How many more starts there is room for now.
local function room(limit, now)
  if limit.b then return breaker_room(limit, now) end

  if limit.p then
    redis.call('ZREMRANGEBYSCORE', own_key('starts', limit.id), '-inf', now - limit.p)
    return most(limit) - redis.call('ZCARD', own_key('starts', limit.id))
  end

  local key = own_key('running', limit.id)
  local left = most(limit) - redis.call('ZCARD', key)
  if left <= 0 then
    scrub(key)
    left = most(limit) - redis.call('ZCARD', key)
  end
  return left
end

-- How much a start of this job counts in one of its limits.
local function weight_of(id, limit_id)
  local text = redis.call('HGET', job_key(id), 'w:limits')
  for _, limit in ipairs(text and cjson.decode(text) or {}) do
    if limit.id == limit_id then return limit.w or 1 end
  end
  return 1
end

-- When a rate limit will have room: once enough starts have left its period for the first job in
-- line.
local function time_of_room(limit, now)
  local first = redis.call('ZRANGE', own_key('parked', limit.id), 0, 0)[1]
  local weight = first and weight_of(first, limit.id) or limit.w or 1
  if weight > most(limit) then weight = 1 end -- the number was lowered: that job is skipped

  local missing = weight - room(limit, now)
  if missing <= 0 then return now + SOON end
  local starts, place = own_key('starts', limit.id), missing - 1
  local start = redis.call('ZRANGE', starts, place, place, 'WITHSCORES')[2]
  return start and math.max(tonumber(start) + limit.p, now + 0.005) or now + LOOK_AGAIN
end

-- Set the time at which a limit is checked again; an earlier one stays.
local function set_gate(limit, now, at)
  if not at and limit.p then at = time_of_room(limit, now) end
  if not at and limit.b then
    local v = redis.call('HMGET', own_key('breaker', limit.id), 'until', 'probe')
    local open_until, probe = tonumber(v[1] or ''), v[2]
    if open_until and not probe then at = open_until > now and open_until or now + 1 end
  end
  at = at or now + LOOK_AGAIN

  local held = redis.call('ZSCORE', GATES, limit.id)
  if not held or at < tonumber(held) then
    redis.call('ZADD', GATES, string.format('%.6f', at), limit.id)
  end
end

-- Return a job's place in line, the most urgent first, then the longest waiting; and the time since
-- which it waits.
local function place_of(id, h, now)
  local since = tonumber(redis.call('HGET', job_key(id), 'w:since') or now)
  -- The number is small enough for a score to distinguish microseconds.
  return tonumber(h.priority) * 1e9 + since - 1.7e9, since
end

-- A job of this queue is no longer parked.
local function uncount(id, queue)
  redis.call('ZREM', own_key('parked_of', queue), id)
  redis.call('HDEL', PARKED_FROM, id)
end

local function park(id, h, limit, now)
  local place, since = place_of(id, h, now)
  local before = redis.call('HGET', PARKED_FROM, id)
  if before then uncount(id, before) end -- of an earlier job with this id, whose hash was deleted

  redis.call('HSET', PARKED_FROM, id, h.queue)
  redis.call('ZADD', own_key('parked', limit.id), string.format('%.6f', place), id)
  redis.call('ZADD', own_key('parked_of', h.queue), string.format('%.6f', since), id)
  redis.call('HSET', job_key(id), 'w:parked', limit.id)
  redis.call('HSET', W .. 'gated', limit.id, cjson.encode(limit))
  set_gate(limit, now)
end

local function unpark_one(id, h)
  redis.call('ZREM', own_key('parked', h.parked), id)
  uncount(id, h.queue)
  redis.call('HDEL', job_key(id), 'w:parked')
end

-- Drop the entry of a job whose hash was deleted while it was parked. It may be back since, and
-- parked elsewhere.
local function drop_stale(id, h, limit_id)
  redis.call('ZREM', own_key('parked', limit_id), id)
  local queue = not h.parked and redis.call('HGET', PARKED_FROM, id)
  if queue then uncount(id, queue) end
end

-- Return the first jobs in line to the front of their lanes, as many as fit into `left`. Jobs of a
-- paused queue need no room. With `top`, the number of a rate limit, jobs count their weight: one
-- that does not fit keeps its place, and the jobs behind it wait too, unless it can never fit.
local function unpark(limit_id, left, text_now, top)
  local found, skip = {}, 0
  for _ = 1, 1000 do
    local id = left > 0 and redis.call('ZRANGE', own_key('parked', limit_id), skip, skip)[1]
    if not id then break end

    local h = read_job(id)
    local weight = top and weight_of(id, limit_id) or 1
    local counts = h.status == 'queued' and redis.call('HEXISTS', W .. 'paused', h.queue) == 0
    if h.parked ~= limit_id then
      drop_stale(id, h, limit_id)
    elseif counts and top and weight > top then
      skip = skip + 1
    elseif counts and weight > left then
      break
    else
      unpark_one(id, h)
      if counts then left = left - weight end
      if h.status == 'queued' then found[#found + 1] = {id, h} end
    end
  end

  for i = #found, 1, -1 do
    local id, h = found[i][1], found[i][2]
    redis.call('HSET', job_key(id), 'w:from', limit_id)
    to_lane(id, h.queue, h.priority, text_now, true, true)
  end
end

-- Whether the room that is left is kept for the first job in line: it came earlier and needs more
-- than is left.
local function is_kept(limit, left, id, h, now)
  local first = redis.call('ZRANGE', own_key('parked', limit.id), 0, 0, 'WITHSCORES')
  if not first[1] or tonumber(first[2]) >= (place_of(id, h, now)) then return false end

  local weight = weight_of(first[1], limit.id)
  return weight > left and weight <= most(limit)
end

-- A job unparked by one limit is parked by another: offer its room at the first to the next job in
-- line.
local passes = 0
local function pass_on(id, limits, holder, now)
  local from = redis.call('HGET', job_key(id), 'w:from')
  if not from then return end

  redis.call('HDEL', job_key(id), 'w:from')
  for _, limit in ipairs(limits) do
    local waits = redis.call('EXISTS', own_key('parked', from)) == 1
    if waits and limit.id == from and from ~= holder.id then
      passes = passes + 1
      if passes > MAX_PASSES then
        set_gate(limit, now, now + SOON)
      elseif room(limit, now) > 0 then
        unpark(from, 1, select(2, clock()))
      end
    end
  end
end

-- Count the start of a job in one of its limits.
local function count_start(limit, id, run, now)
  local at = string.format('%.6f', now)
  if limit.b then
    local breaker = own_key('breaker', limit.id)
    if redis.call('EXISTS', breaker) == 1 then redis.call('HSET', breaker, 'probe', id) end
  elseif limit.p then
    local starts = own_key('starts', limit.id)
    for i = 1, limit.w or 1 do redis.call('ZADD', starts, at, run .. ':' .. i) end
    redis.call('EXPIRE', starts, math.ceil(limit.p) + 60)
  else
    redis.call('ZADD', own_key('running', limit.id), at, id)
  end
end

-- Whether a job may start. If so, its start counts in all its limits; else it is parked at the
-- first that is full.
local function admit(id, h, run, now)
  local limits = cjson.decode(h.limits)
  for _, limit in ipairs(limits) do
    local left = room(limit, now)
    if left < (limit.w or 1) or limit.p and is_kept(limit, left, id, h, now) then
      park(id, h, limit, now)
      pass_on(id, limits, limit, now)
      return false
    end
  end

  for _, limit in ipairs(limits) do count_start(limit, id, run, now) end
  return true
end

-- A run that did not begin the work gives back its starts in the periods of rate limits.
local function uncount_start(limits, run)
  for _, limit in ipairs(cjson.decode(limits)) do
    if limit.p then
      for i = 1, limit.w or 1 do redis.call('ZREM', own_key('starts', limit.id), run .. ':' .. i) end
      if redis.call('EXISTS', own_key('parked', limit.id)) == 1 then
        redis.call('ZADD', GATES, '0', limit.id)
      end
    end
  end
end

local function open_breaker(limit, now)
  local key = own_key('breaker', limit.id)
  redis.call('HSETNX', key, 'since', string.format('%.3f', now))
  redis.call('HSET', key, 'until', string.format('%.6f', now + limit.reset))
  redis.call('HDEL', key, 'probe')
  redis.call('DEL', own_key('failures', limit.id))
  if redis.call('EXISTS', own_key('parked', limit.id)) == 1 then set_gate(limit, now) end
end

local function close_breaker(limit_id, text_now)
  redis.call('DEL', own_key('breaker', limit_id), own_key('failures', limit_id))
  unpark(limit_id, 1000, text_now)
  if redis.call('EXISTS', own_key('parked', limit_id)) == 1 then
    redis.call('ZADD', GATES, '0', limit_id)
  end
end

-- Update a breaker by what a run says about the dependency: ok, fail or nothing. After a probe that
-- says nothing, another job is the probe.
local function judge(limit, id, verdict, now, text_now)
  local key = own_key('breaker', limit.id)
  local is_probe = redis.call('HGET', key, 'probe') == id

  if verdict == 'ok' then
    if is_probe then close_breaker(limit.id, text_now) end
  elseif verdict == 'fail' then
    local failures = own_key('failures', limit.id)
    redis.call('ZADD', failures, string.format('%.6f', now), id .. ':' .. text_now)
    redis.call('ZREMRANGEBYSCORE', failures, '-inf', now - limit.within)
    redis.call('EXPIRE', failures, math.ceil(limit.within) + 60)
    local open = redis.call('EXISTS', key) == 1
    if is_probe or not open and redis.call('ZCARD', failures) >= limit.b then
      open_breaker(limit, now)
    end
  elseif is_probe then
    redis.call('HDEL', key, 'probe')
    if redis.call('EXISTS', own_key('parked', limit.id)) == 1 then set_gate(limit, now, now) end
  end
end

-- A run has ended: free its slots and unpark the next jobs in line. `verdicts` are what the run
-- says about its breakers, by limit id; empty when its worker died.
local function free(id, limits, verdicts, now, text_now)
  for _, limit in ipairs(cjson.decode(limits)) do
    if limit.b then
      judge(limit, id, verdicts[limit.id], now, text_now)
    elseif not limit.p and redis.call('ZREM', own_key('running', limit.id), id) == 1 then
      unpark(limit.id, 1, text_now)
    end
  end
end

-- Check the limits whose gate opens now.
local function open_gates(now, text_now)
  for _, limit_id in ipairs(redis.call('ZRANGEBYSCORE', GATES, '-inf', now, 'LIMIT', 0, 20)) do
    redis.call('ZREM', GATES, limit_id)
    local text = redis.call('HGET', W .. 'gated', limit_id)
    if text then
      local limit = cjson.decode(text)
      local left = room(limit, now)
      if left > 0 then unpark(limit_id, left, text_now, limit.p and most(limit)) end
      if redis.call('EXISTS', own_key('parked', limit_id)) == 1 then
        set_gate(limit, now)
      else
        redis.call('HDEL', W .. 'gated', limit_id)
      end
    end
  end
end
