-- limits: which job may start now. Needs lib.
-- A limit is {id, n, p, w}: with a period p at most n starts in any p seconds, a start counting w; without one at most n
-- at once; with b it is a circuit breaker {id, b failures, within, reset}. A job that finds no room is parked, out of its
-- lane but still waiting, and comes back to the front of its lane when there is room: when a run ends, or when the
-- limit's gate opens, at the time at which there will be room.
local GATES = W .. 'gates'
local LOOK_AGAIN = 5 -- seconds after which a full limit is looked at again, in case a slot was lost
local SOON = 0.05 -- seconds in which those who were let go have started
local MOST_PASSES = 32 -- in one call: a job that another limit holds leaves its room to the next in line

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
  if v[2] and redis.call('ZSCORE', LEASES, v[2]) then return 0 end
  if v[2] then redis.call('HDEL', breaker_of(limit.id), 'probe') end -- somebody deleted its hash while it ran
  return now < tonumber(v[1]) and 0 or 1 -- time for a probe
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

-- How much a job counts in one of its limits.
local function weight_of(id, limit_id)
  local text = redis.call('HGET', job_key(id), 'w:limits')
  for _, limit in ipairs(text and cjson.decode(text) or {}) do
    if limit.id == limit_id then return limit.w or 1 end
  end
  return 1
end

-- When those parked at a limit of starts will have room: when enough starts have left the period for the first in line.
local function time_of_room(limit, now)
  local first = redis.call('ZRANGE', parked_in(limit.id), 0, 0)[1]
  local weight = first and weight_of(first, limit.id) or limit.w or 1
  if weight > most(limit) then weight = 1 end -- the number was lowered: that one is passed over
  local missing = weight - room(limit, now)
  if missing <= 0 then return now + SOON end
  local start = redis.call('ZRANGE', starts_of(limit.id), missing - 1, missing - 1, 'WITHSCORES')[2]
  return start and math.max(tonumber(start) + limit.p, now + 0.005) or now + LOOK_AGAIN
end

-- Set the moment at which a limit is looked at again; an earlier one stays.
local function set_gate(limit, now, at)
  if not at and limit.p then at = time_of_room(limit, now) end
  if not at and limit.b then
    local v = redis.call('HMGET', breaker_of(limit.id), 'until', 'probe')
    if v[1] and not v[2] then at = tonumber(v[1]) > now and tonumber(v[1]) or now + 1 end
  end
  at = at or now + LOOK_AGAIN
  local held = redis.call('ZSCORE', GATES, limit.id)
  if not held or at < tonumber(held) then redis.call('ZADD', GATES, string.format('%.6f', at), limit.id) end
end

-- A job's place in the lines of its limits: the most urgent first, then the one that has waited longest. And since when
-- it waits.
local function place_of(id, h, now)
  local since = tonumber(redis.call('HGET', job_key(id), 'w:since') or now)
  return tonumber(h.priority) * 1e9 + since - 1.7e9, since -- small enough for a score to tell microseconds apart
end

-- The queue that a job is parked from stands beside its hash, for somebody may delete that.
local PARKED_FROM = W .. 'parked_from'

local function uncount(id, queue)
  redis.call('ZREM', W .. 'parked_of:' .. queue, id)
  redis.call('HDEL', PARKED_FROM, id)
end

local function park(id, h, limit, now)
  local place, since = place_of(id, h, now)
  local before = redis.call('HGET', PARKED_FROM, id)
  if before then uncount(id, before) end -- of a life whose hash was deleted
  redis.call('HSET', PARKED_FROM, id, h.queue)
  redis.call('ZADD', parked_in(limit.id), string.format('%.6f', place), id)
  redis.call('ZADD', W .. 'parked_of:' .. h.queue, string.format('%.6f', since), id)
  redis.call('HSET', job_key(id), 'w:parked', limit.id)
  redis.call('HSET', W .. 'gated', limit.id, cjson.encode(limit))
  set_gate(limit, now)
end

local function unpark_one(id, h)
  redis.call('ZREM', parked_in(h.parked), id)
  uncount(id, h.queue)
  redis.call('HDEL', job_key(id), 'w:parked')
end

-- Drop the entry of a job whose hash was deleted while it was parked; it may have come back since, and be parked elsewhere.
local function drop_stale(id, h, limit_id)
  redis.call('ZREM', parked_in(limit_id), id)
  local queue = not h.parked and redis.call('HGET', PARKED_FROM, id)
  if queue then uncount(id, queue) end
end

-- Let the first in line come back to the front of their lanes, as many as fit into `left`. Those of a paused queue do
-- not count: they take no room. With `top`, the number of a limit of starts, a job counts its weight: one that does not
-- fit keeps its place and those behind it wait, unless it never will.
local function unpark(limit_id, left, text_now, top)
  local found, skip = {}, 0
  for _ = 1, 1000 do
    local id = left > 0 and redis.call('ZRANGE', parked_in(limit_id), skip, skip)[1]
    if not id then break end
    local h = head(id)
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

-- Whether the room there is, is kept for the first in line, who needs more of it and came before this job.
local function is_kept(limit, left, id, h, now)
  local first = redis.call('ZRANGE', parked_in(limit.id), 0, 0, 'WITHSCORES')
  if not first[1] or tonumber(first[2]) >= (place_of(id, h, now)) then return false end
  local weight = weight_of(first[1], limit.id)
  return weight > left and weight <= most(limit)
end

-- A job that one limit has let go and another one holds leaves its room in the first to the next in line there.
local passes = 0
local function pass_on(id, limits, holder, now)
  local from = redis.call('HGET', job_key(id), 'w:from')
  if not from then return end
  redis.call('HDEL', job_key(id), 'w:from')
  for _, limit in ipairs(limits) do
    if limit.id == from and from ~= holder.id and redis.call('EXISTS', parked_in(from)) == 1 then
      passes = passes + 1
      if passes > MOST_PASSES then
        set_gate(limit, now, now + SOON)
      elseif room(limit, now) > 0 then
        unpark(from, 1, select(2, clock()))
      end
    end
  end
end

-- May this job start? Then it counts in all its limits; else it is parked at the first that is full.
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
  for _, limit in ipairs(limits) do
    if limit.b then
      if redis.call('EXISTS', breaker_of(limit.id)) == 1 then redis.call('HSET', breaker_of(limit.id), 'probe', id) end
    elseif limit.p then
      local starts, at = starts_of(limit.id), string.format('%.6f', now)
      for i = 1, limit.w or 1 do redis.call('ZADD', starts, at, run .. ':' .. i) end
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
    if redis.call('EXISTS', parked_in(limit.id)) == 1 then set_gate(limit, now, now) end
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
      if left > 0 then unpark(limit_id, left, text_now, limit.p and most(limit)) end
      if redis.call('EXISTS', parked_in(limit_id)) == 1 then
        set_gate(limit, now)
      else
        redis.call('HDEL', W .. 'gated', limit_id)
      end
    end
  end
end
