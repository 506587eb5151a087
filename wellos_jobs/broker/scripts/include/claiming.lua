-- claiming: how a worker gets its next job; shared by claim and settle, which are put behind it.

local MOST_HINTS = 500

-- The lane to take from: the best one, or in one claim of 16 the one whose oldest job has waited longest.
local function choose_lane(set, fair_turn)
  if not fair_turn then return redis.call('ZRANGE', W .. 'ready:' .. set, 0, 0)[1] end
  local ages = W .. 'age:' .. set
  for _ = 1, 16 do -- the ages are hints: put those right that are too old, then look again
    local oldest = redis.call('ZRANGE', ages, 0, 0, 'WITHSCORES')
    if not oldest[1] then return redis.call('ZRANGE', W .. 'ready:' .. set, 0, 0)[1] end
    local priority, queue = string.match(oldest[1], '^(%d+)|(.*)$')
    local first = redis.call('LINDEX', lane_key(queue, priority), 0)
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

local function take(id, h, worker, run, now, text_now, iso, lease)
  local attempt = h.attempt + 1
  redis.call('HSET', job_key(id), 'status', 'started', 'started_at', iso, 'last_heartbeat', iso,
    'worker_name', worker, 'w:run', run, 'w:attempt', attempt)
  redis.call('PERSIST', job_key(id)) -- a final job that RQ's own code requeued had a time to live
  if not h.foreign then open_execution(id, run, h.queue, worker, text_now) end
  redis.call('ZADD', LEASES, string.format('%.6f', now + lease), id)
  h.attempt, h.worker = attempt, worker
  local since = redis.call('HGET', job_key(id), 'w:since')
  event('started', id, h, since and string.format('{"wait":%.6f}', math.max(0, now - tonumber(since))) or '')
end

-- Claim the next job of a set of queues. Returns its id, or false and the time the next delayed job is due. A quiet worker
-- takes none: the token of the bell that it may have taken is for another.
local function claim_next(set, worker, nonce, seq, iso, lease, quiet)
  local now, text_now = clock()
  move_due(now, text_now, iso, 20)
  if quiet then
    if redis.call('EXISTS', W .. 'ready:' .. set) == 1 then ring(set) end
    return false, 'quiet'
  end
  if redis.call('EXISTS', P .. ':suspended') == 1 then return false end
  local ready = W .. 'ready:' .. set
  local fair_turn = seq % 16 == 0
  for step = 1, MOST_HINTS do
    local lane = choose_lane(set, fair_turn)
    if not lane then break end
    local priority, queue = string.match(lane, '^(%d+)|(.*)$')
    local key = lane_key(queue, priority)
    local paused = redis.call('HEXISTS', W .. 'paused', queue) == 1
    local id = not paused and redis.call('LPOP', key)
    if id then refill(key) end
    if paused or redis.call('EXISTS', key) == 0 then
      redis.call('ZREM', ready, lane)
      redis.call('ZREM', W .. 'age:' .. set, lane)
      if not paused then forget_turns(key) end
    end
    if id then
      local h = head(id)
      -- a list entry is only a hint: anything but 'queued' is dropped, and so is a second entry of a parked job
      if h.status == 'queued' and not h.parked and (not h.limits or admit(id, h, nonce .. '-' .. seq, now)) then
        take(id, h, worker, nonce .. '-' .. seq, now, text_now, iso, lease)
        if redis.call('EXISTS', ready) == 1 then ring(set) end -- baton: leave no idle worker asleep over work
        return id
      end
    end
    if step == MOST_HINTS then return false, '0' end -- more hints than one call may drop: ask again at once
  end
  return false, next_due()
end

-- A worker process numbers its calls. A number that comes again is a call resent after a lost reply: it gets the stored
-- answer. The nonce tells the process from an earlier one of the same name. A job whose lease has run out meanwhile is not
-- in the answer: it may be another worker's by now, and its run with it.
-- Returns settled, the job's id and when the next is due; nothing and whether the worker is quiet when the call is new.
local function answered(worker, nonce, seq)
  local v = redis.call('HMGET', worker_key(worker), 'w:seq', 'w:settled', 'w:claimed', 'w:due', 'w:quiet')
  if v[1] ~= nonce .. '-' .. seq then return nil, v[5] end
  local id = v[3] ~= '' and v[3]
  if id and redis.call('HGET', job_key(id), 'w:run') ~= v[1] then return tonumber(v[2]), false, '0' end
  return tonumber(v[2]), id, v[4]
end

local function remember(worker, nonce, seq, settled, id, due)
  local fields = {'w:seq', nonce .. '-' .. seq, 'w:settled', settled, 'w:claimed', id or '', 'w:due', due or ''}
  if id then
    fields[9], fields[10], fields[11], fields[12] = 'current_job', id, 'state', 'busy'
  end
  redis.call('HSET', worker_key(worker), unpack(fields))
end

local PAYLOAD = {'w:name', 'data', 'origin', 'w:attempt', 'w:max', 'w:timeout', 'w:db', 'w:gen', 'w:org', 'w:user',
  'w:ctx', 'w:run', 'w:since', 'w:prio', 'timeout'}

-- {settled, seconds until the next delayed job is due ('' = none; 'quiet' = it takes no jobs), id, then the fields above}
local function answer(settled, id, due)
  local wait = ''
  if due == 'quiet' then
    wait = due
  elseif due and due ~= '' then
    wait = string.format('%.3f', math.max(0, tonumber(due) - clock()))
  end
  local reply = {settled, wait, id or ''}
  if id then
    for i, value in ipairs(redis.call('HMGET', job_key(id), unpack(PAYLOAD))) do reply[3 + i] = value end
  end
  return reply
end
