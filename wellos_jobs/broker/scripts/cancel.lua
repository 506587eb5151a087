-- cancel: stop a job wherever it is. An id that Redis does not know gets a tombstone, so that a push that comes later
-- is a no-op.
-- ARGV: iso time · id · for the tombstone: queue · name ('' for a job of foreign code) · database alias · generation ·
--       detail (JSON of the event)
-- Returns canceled, stopping (it runs: its supervisor was told) or final.
local iso, id, queue, name, db, gen, detail = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7]
local h = head(id)
if not h.status or (h.status == 'failed' and tonumber(h.gen) < tonumber(gen)) then
  redis.call('DEL', job_key(id))
  redis.call('ZREM', P .. ':failed:' .. queue, id)
  redis.call('HSET', job_key(id), 'status', 'canceled', 'origin', queue, 'created_at', iso, 'ended_at', iso,
    'data', '["' .. 'canceled' .. '",null,[],{}]', 'description', name, 'w:name', name, 'w:db', db, 'w:gen', gen,
    'w:attempt', '0')
  redis.call('EXPIRE', job_key(id), 86400)
  event('canceled', id, {name = name, queue = queue, attempt = 0, worker = '', db = db, gen = gen}, detail)
  return 'canceled'
end
if h.status == 'started' then
  redis.call('HSET', job_key(id), 'w:cancel', '1')
  redis.call('PUBLISH', P .. ':pubsub:' .. h.worker, cjson.encode({command = 'stop-job', job_id = id}))
  return 'stopping'
end
if h.status == 'queued' then
  leave_lane(id, h.queue, h.priority)
  if h.parked then unpark_one(id, h) end
elseif h.status == 'scheduled' then
  redis.call('ZREM', DUE, id)
  redis.call('ZREM', P .. ':scheduled:' .. h.queue, id)
elseif h.status == 'deferred' then
  redis.call('ZREM', P .. ':deferred:' .. h.queue, id)
elseif h.status == 'canceled' then
  return 'canceled'
else
  return 'final'
end
h.worker = ''
finish(id, h, 'canceled', 'canceled', iso)
event('canceled', id, h, detail)
return 'canceled'
