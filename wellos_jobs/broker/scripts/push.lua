-- push: bring committed rows to Redis. A known id is skipped, so the call may be resent.
-- ARGV: iso time · deadline on the Redis clock ('' for none; the relay sets one, so that rows it
--   read long ago cannot revive jobs that have ended since) · the installation to which Redis is
--   known to belong ('' if unknown) · for each job a JSON object
--   {id, q, prio, due, after, gen, event, hash, fair}: `due` is a time, '' if it is not delayed;
--   `after`, if there is one, counts instead: seconds from now, on the Redis clock
-- Returns an error OWNER if Redis belongs to another installation. Else
-- Returns {length of the event stream, now, a code for each job}: 1 pushed, 0 known, -1 canceled
-- before it was pushed.
-- Includes: bell, lanes

local iso, deadline, installation = ARGV[1], ARGV[2], ARGV[3]
local now, text_now = clock()
if deadline ~= '' and now > tonumber(deadline) then
  return redis.error_reply('LATE the rows were read too long ago')
end

local owner = redis.call('HGET', W .. 'installation', 'identity')
if owner and owner ~= installation then return redis.error_reply('OWNER ' .. owner) end

-- Return the status and generation of the hash, if there is one.
local function known(id)
  local v = redis.pcall('HMGET', job_key(id), 'status', 'w:gen')
  if v.err then -- the key holds another type
    redis.call('DEL', job_key(id))
    return
  end
  return v[1], tonumber(v[2] or '0')
end

-- Remove what is left of a job that is replayed.
local function clear(job)
  redis.call('DEL', job_key(job.id))
  for _, status in ipairs({'failed', 'canceled', 'finished'}) do
    redis.call('ZREM', rq_key(status, job.q), job.id)
  end
end

local function write_hash(job, status)
  local fields = {'status', status, 'enqueued_at', iso}
  for name, value in pairs(job.hash) do
    fields[#fields + 1] = name
    fields[#fields + 1] = value
  end
  redis.call('HSET', job_key(job.id), unpack(fields))
end

local function push(job, position)
  if job.after then job.due = string.format('%.6f', now + job.after) end
  local delayed = job.due ~= '' and tonumber(job.due) > now
  write_hash(job, delayed and 'scheduled' or 'queued')
  if job.fair then redis.call('HSET', W .. 'fair', job.q, 1) end

  local detail = ''
  if delayed then
    to_delayed(job.id, job.q, job.due)
    detail = '{"run_at":' .. job.due .. '}'
  else -- microseconds apart, so that jobs parked at a limit keep their order
    to_lane(job.id, job.q, job.prio, string.format('%.6f', now + position * 4e-6))
  end

  local h = {
    name = job.hash['w:name'],
    queue = job.q,
    attempt = job.hash['w:attempt'],
    worker = '',
    db = job.hash['w:db'],
    gen = job.gen,
  }
  event(job.event, job.id, h, detail)
end

local reply = {redis.call('XLEN', EVENTS), text_now}
for i = 4, #ARGV do
  local job = cjson.decode(ARGV[i])
  local status, generation = known(job.id)
  local code = 1

  if status and generation >= job.gen then
    code = 0
    if status == 'canceled' then -- the row may be newer than the tombstone's event: repeat it
      event('canceled', job.id, read_job(job.id))
      code = -1
    end
  else
    if status then clear(job) end
    push(job, i - 4)
  end
  reply[#reply + 1] = code
end
return reply
