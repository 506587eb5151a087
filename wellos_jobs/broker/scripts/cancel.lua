-- cancel: stop a job in any state. An unknown id gets a tombstone, so that a later push does
-- nothing.
-- queue, name ('' for a foreign job), database and generation are for the tombstone; by identifies
-- the caller: one caller alone gets the answer that it has canceled the job, however often its call
-- is sent. detail is the JSON of the event.
-- Returns canceled, stopping (it runs; its supervisor was told to stop it), already (another caller
-- canceled it before, or told its supervisor) or final.
-- Includes: bell, lanes, limits, lifecycle

local call = arguments({'time', 'job_id', 'queue', 'name', 'database', 'generation', 'by', 'detail'})
local id, iso = call.job_id, call.time

local function write_tombstone()
  redis.call('DEL', job_key(id))
  redis.call('ZREM', rq_key('failed', call.queue), id)
  redis.call('HSET', job_key(id), 'status', 'canceled', 'origin', call.queue,
    'created_at', iso, 'ended_at', iso, 'data', '["canceled",null,[],{}]',
    'description', call.name, 'w:name', call.name, 'w:db', call.database,
    'w:gen', call.generation, 'w:attempt', '0', 'w:by', call.by)
  redis.call('EXPIRE', job_key(id), 86400)
  event('canceled', id, {name = call.name, queue = call.queue, attempt = 0, worker = '',
    db = call.database, gen = call.generation}, call.detail)
end

local h = read_job(id)
if not h.status or (h.status == 'failed' and tonumber(h.gen) < tonumber(call.generation)) then
  write_tombstone()
  return 'canceled'
end

if h.status == 'started' then
  if not h.cancel then
    redis.call('HSET', job_key(id), 'w:cancel', call.by, 'w:by', call.by)
  end
  local command = cjson.encode({command = 'stop-job', job_id = id})
  redis.call('PUBLISH', P .. ':pubsub:' .. h.worker, command)
  return (h.cancel or call.by) == call.by and 'stopping' or 'already'
end

if h.status == 'queued' then
  leave_lane(id, lane_of(h))
  if h.parked then unpark_one(id, h) end
elseif h.status == 'scheduled' then
  redis.call('ZREM', DUE, id)
  redis.call('ZREM', rq_key('scheduled', h.queue), id)
elseif h.status == 'deferred' then
  redis.call('ZREM', rq_key('deferred', h.queue), id)
elseif h.status == 'canceled' then
  return redis.call('HGET', job_key(id), 'w:by') == call.by and 'canceled' or 'already'
else
  return 'final'
end

finish_canceled(id, h, iso, call.detail)
redis.call('HSET', job_key(id), 'w:by', call.by)
return 'canceled'
