-- push: bring committed rows to Redis. Pushing an id that Redis knows changes nothing, so it may be resent.
-- ARGV: iso time · deadline on the Redis clock ('' for none: the relay gives one, so that a stale reader of rows
--       cannot revive jobs that have ended since) · one JSON object a job: {id, q, prio, due, gen, event, hash}
-- Returns {length of the event stream, now, code a job}: 1 pushed, 0 known already, -1 cancelled before it came.
local iso, deadline = ARGV[1], ARGV[2]
local now, text_now = clock()
if deadline ~= '' and now > tonumber(deadline) then return redis.error_reply('LATE the rows were read too long ago') end
local reply = {redis.call('XLEN', EVENTS), text_now}

for i = 3, #ARGV do
  local j = cjson.decode(ARGV[i])
  local key = job_key(j.id)
  local known = redis.pcall('HMGET', key, 'status', 'w:gen')
  if known.err then -- something else was put under its key
    redis.call('DEL', key)
    known = {}
  end
  local code = 1
  if known[1] and tonumber(known[2] or '0') >= j.gen then
    code = 0
    if known[1] == 'canceled' then -- the row may have come after the tombstone's event: tell the ledger again
      event('canceled', j.id, head(j.id))
      code = -1
    end
  else
    if known[1] then -- a replay of a job whose last life is still here
      redis.call('DEL', key)
      redis.call('ZREM', P .. ':failed:' .. j.q, j.id)
      redis.call('ZREM', P .. ':canceled:' .. j.q, j.id)
      redis.call('ZREM', P .. ':finished:' .. j.q, j.id)
    end
    local delayed = j.due ~= '' and tonumber(j.due) > now
    local fields = {'status', delayed and 'scheduled' or 'queued', 'enqueued_at', iso}
    for name, value in pairs(j.hash) do
      fields[#fields + 1] = name
      fields[#fields + 1] = value
    end
    redis.call('HSET', key, unpack(fields))
    local detail = ''
    if j.fair then redis.call('HSET', W .. 'fair', j.q, 1) end
    if delayed then
      to_delayed(j.id, j.q, j.due)
      detail = '{"run_at":' .. j.due .. '}'
    else
      -- microseconds apart, so that those parked at a limit keep their order
      to_lane(j.id, j.q, j.prio, string.format('%.6f', now + (i - 3) * 4e-6))
    end
    event(j.event, j.id, {name = j.hash['w:name'], queue = j.q, attempt = j.hash['w:attempt'], worker = '',
      db = j.hash['w:db'], gen = j.gen}, detail)
  end
  reply[#reply + 1] = code
end
return reply
