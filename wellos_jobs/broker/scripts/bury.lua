-- bury: end jobs that have waited too long for code which no worker of their queue knows. Run by
-- supervisors with workers: an empty fleet buries nothing. Time counts only while the queue is served,
-- and not paused.
-- ARGV: iso time · seconds · queue names
-- Returns for each job: id, name, queue, attempt, JSON of the event.
-- Includes: bell, lanes, limits, lifecycle

local iso, wait = ARGV[1], tonumber(ARGV[2])
local now, text_now = clock()
local GONE = 30 -- seconds without a sign of life after which workers are gone

-- Return the queue sets with workers that serve a queue.
local function fleet_of(queue)
  local found = {}
  for _, set in ipairs(redis.call('SMEMBERS', own_key('sets', queue))) do
    local seen = redis.call('ZSCORE', W .. 'fleet', set)
    if seen and now - tonumber(seen) < GONE then found[#found + 1] = set end
  end
  return found
end

-- Return since when a queue has been served without a break, as `<since> <last seen>` says.
local function served_since(queue)
  local key = W .. 'served'
  local since, last = string.match(redis.call('HGET', key, queue) or '', '^(%S+) (%S+)$')
  if not last or now - tonumber(last) > GONE then since = text_now end
  redis.call('HSET', key, queue, since .. ' ' .. text_now)
  return tonumber(since)
end

-- Whether workers of a queue may know a job: the others have said that they do not.
local function may_be_known(code, fleet)
  for _, set in ipairs(fleet) do
    if not is_unknown_to(set, code) then return true end
  end
  return false
end

local function bury(id, h)
  local verdict = redis.call('HGET', job_key(id), 'w:unknown') or '{}'
  leave_lane(id, h.held)
  h.worker = ''
  finish(id, h, 'failed', iso)
  redis.call('HSET', job_key(id), 'worker_name', '', 'w:error', cjson.decode(verdict).message or '')
  event('failed', id, h, verdict)
  return {id, h.name, h.queue, h.attempt, verdict}
end

local reply = {}
local function look_at(lane)
  local due = string.format('%.6f', now - wait)
  local overdue = redis.call('ZRANGEBYSCORE', own_key('held', lane), '-inf', due, 'LIMIT', 0, 100)
  for _, id in ipairs(overdue) do
    local h = read_job(id)
    if h.status == 'queued' and h.held == lane then
      for _, part in ipairs(bury(id, h)) do reply[#reply + 1] = part end
    else -- its hash was deleted
      leave_lane(id, lane)
    end
  end
end

local suspended = redis.call('EXISTS', P .. ':suspended') == 1
for i = 3, #ARGV do
  local queue = ARGV[i]
  local stands_still = suspended or redis.call('HEXISTS', W .. 'paused', queue) == 1
  local fleet = stands_still and {} or fleet_of(queue)
  if #fleet > 0 and now - served_since(queue) >= wait then
    for _, lane in ipairs(redis.call('SMEMBERS', own_key('code_lanes', queue))) do
      local _, _, code = parts_of(lane)
      if not may_be_known(code, fleet) then look_at(lane) end
    end
  end
end
return reply
