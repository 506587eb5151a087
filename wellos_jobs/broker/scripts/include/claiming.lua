-- claiming: how a worker gets its next job; for claim and settle. Needs lifecycle.
-- `call` holds the arguments that both begin with: worker, number, nonce, queue_set, time, lease.

local MAX_HINTS = 500 -- list entries that one call may drop
local UNREGISTERED_TTL = 600 -- seconds; a worker that lives is registered again within some

-- A process numbers its calls; the nonce distinguishes it from an earlier process of the same
-- worker name.
local function call_id(call) return call.nonce .. '-' .. call.number end

-- Return the lane to take from: the best one, or in one claim of 16 the one whose oldest job has
-- waited longest.
local function choose_lane(set, longest_wait)
  local ready = own_key('ready', set)
  if not longest_wait then return redis.call('ZRANGE', ready, 0, 0)[1] end

  local ages = own_key('age', set)
  for _ = 1, 16 do -- ages are hints: correct the outdated ones, then look again
    local oldest = redis.call('ZRANGE', ages, 0, 0, 'WITHSCORES')
    if not oldest[1] then return redis.call('ZRANGE', ready, 0, 0)[1] end

    local first = redis.call('LINDEX', lane_key(oldest[1]), 0)
    local since = first and field(first, 'w:since')
    if not first then
      redis.call('ZREM', ages, oldest[1])
    elseif since and tonumber(since) > tonumber(oldest[2]) + 0.001 then
      redis.call('ZADD', ages, since, oldest[1])
    else
      return oldest[1]
    end
  end
  return redis.call('ZRANGE', ages, 0, 0)[1]
end

-- Claim a job that was popped from its lane.
local function take(id, h, call, now, text_now)
  local attempt, run = h.attempt + 1, call_id(call)
  redis.call('HSET', job_key(id), 'status', 'started', 'started_at', call.time,
    'last_heartbeat', call.time, 'worker_name', call.worker, 'w:run', run, 'w:attempt', attempt)
  redis.call('PERSIST', job_key(id)) -- a final job that was requeued by RQ had a time to live
  if not h.foreign then open_execution(id, run, h.queue, call.worker, text_now) end
  redis.call('ZADD', LEASES, string.format('%.6f', now + tonumber(call.lease)), id)

  h.attempt, h.worker = attempt, call.worker
  local since = redis.call('HGET', job_key(id), 'w:since')
  local waited = since and string.format('{"wait":%.6f}', math.max(0, now - tonumber(since)))
  event('started', id, h, waited or '')
end

-- Pop the next entry of a lane, if its queue is not paused and the workers of the queue set may know
-- its code. Otherwise, and without further entries, the lane leaves the queue set. Returns the job's
-- id, if there is one, and what is known of it.
local function pop(lane, set)
  local _, queue, code = parts_of(lane)
  local key = lane_key(lane)
  local closed = redis.call('HEXISTS', W .. 'paused', queue) == 1
    or code and is_unknown_to(set, code)
  local id = not closed and redis.call('LPOP', key)
  if id then refill(key) end

  if closed or redis.call('EXISTS', key) == 0 then
    redis.call('ZREM', own_key('ready', set), lane)
    redis.call('ZREM', own_key('age', set), lane)
    if not closed then forget_turns(key) end
  end
  if not id then return end

  local h = read_job(id)
  -- A list entry is only a hint: drop it unless the job is queued, and this no second entry of a job
  -- that is parked or waits for code.
  local wanted = h.status == 'queued' and not h.parked and (not h.held or h.held == lane)
  if code then leave_code_lane(id, lane, queue) end
  return wanted and id, h
end

-- Put a job that the workers of this queue set do not know where others find it.
local function hold(id, h, verdict, now, text_now, in_front)
  to_lane(id, h.queue, h.priority, text_now, in_front, true, h.code)
  redis.call('HSET', job_key(id), 'w:unknown', verdict)
  if h.limits then pass_on(id, cjson.decode(h.limits), {}, now) end
end

-- Claim the next job of a queue set. Returns its id, or false and when to ask again (see next_due).
-- A quiet worker gets none; it passes on the token of the bell that it may have taken.
local function claim_next(call, quiet)
  local set, now, text_now = call.queue_set, clock()
  local ready = own_key('ready', set)
  move_due(now, text_now, call.time, 20)
  if quiet then
    if redis.call('EXISTS', ready) == 1 then ring(set) end
    return false, 'quiet'
  end
  if redis.call('EXISTS', P .. ':suspended') == 1 then return false end

  local knows_all = redis.call('EXISTS', own_key('unknown', set)) == 0
  local longest_wait = tonumber(call.number) % 16 == 0
  for step = 1, MAX_HINTS do
    local lane = choose_lane(set, longest_wait)
    if not lane then break end

    local id, h = pop(lane, set)
    local verdict = id and not knows_all and redis.call('HGET', own_key('unknown', set), h.code)
    if verdict then
      hold(id, h, verdict, now, text_now)
    elseif id and (not h.limits or admit(id, h, call_id(call), now)) then
      take(id, h, call, now, text_now)
      if redis.call('EXISTS', ready) == 1 then ring(set) end -- more work: wake the next worker
      return id
    end
    if step == MAX_HINTS then return false, '0' end -- ask again at once
  end
  return false, next_due()
end

-- A call that comes again was resent after a lost reply: return its stored answer, that is settled,
-- the job's id and when to ask again. A job whose lease has run out since is not in it: another
-- worker may have it by now.
-- For a new call, return nil and whether the worker is quiet.
local function answered(call)
  local v = redis.call('HMGET', worker_key(call.worker), 'w:seq', 'w:settled', 'w:claimed', 'w:due',
    'w:quiet', 'birth')
  call.registered = v[6]
  if v[1] ~= call_id(call) then return nil, v[5] end

  local id = v[3] ~= '' and v[3]
  if id and redis.call('HGET', job_key(id), 'w:run') ~= v[1] then
    return tonumber(v[2]), false, '0'
  end
  return tonumber(v[2]), id, v[4]
end

-- Store the answer of a call for `answered`, and what the worker holds now. A call that claims
-- nothing says so too: a Redis with older data may name a job whose run has long ended.
-- If Redis has forgotten the worker, the new hash gets a time to live, in case it is never renewed.
local function remember(call, settled, id, due)
  local key = worker_key(call.worker)
  redis.call('HSET', key, 'w:seq', call_id(call), 'w:settled', settled, 'w:claimed', id or '',
    'w:due', due or '', 'current_job', id or '', 'state', id and 'busy' or 'idle')
  if not call.registered then redis.call('EXPIRE', key, UNREGISTERED_TTL) end
end

-- The fields of a claimed job's hash that its worker needs: broker/claims.py has the same list.
local CLAIM_FIELDS = {'w:name', 'data', 'origin', 'w:attempt', 'w:max', 'w:timeout', 'w:db',
  'w:gen', 'w:org', 'w:user', 'w:ctx', 'w:run', 'w:since', 'w:prio', 'timeout', 'w:version'}

-- Return the answer: {settled, next_due, job_id, then CLAIM_FIELDS}. next_due is in seconds from
-- now; '' if nothing is due, 'quiet' if the worker is to take no jobs.
local function answer(settled, id, due)
  local next_due = due or ''
  if next_due ~= '' and next_due ~= 'quiet' then next_due = seconds_until(due, (clock())) end

  local reply = {settled, next_due, id or ''}
  if id then
    local values = redis.call('HMGET', job_key(id), unpack(CLAIM_FIELDS))
    for i, value in ipairs(values) do reply[3 + i] = value end
  end
  return reply
end
