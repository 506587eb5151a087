-- rearm: turn a due entry of rq-scheduler's set into a run, and set the entry to its next time, in
-- one step.
-- ARGV: iso time · key of the set · entry id · the score it was read with · next score ('' after
--   the last run) · id of the run ('' if the entry itself runs) · new meta of the entry ('' if
--   unchanged) · queue
-- Returns 1, 0 if the entry was changed or taken since, or -1 if its hash is gone (the entry is
-- dropped).
-- Includes: bell, lanes

local iso, key, id, score, next_score, run, meta, queue = unpack(ARGV)
if not has_score(key, id, score) then return 0 end

local hash = redis.call('HGETALL', job_key(id))
if #hash == 0 then
  redis.call('ZREM', key, id)
  return -1
end
if next_score == '' then
  redis.call('ZREM', key, id)
else
  redis.call('ZADD', key, next_score, id)
end

if run == '' then
  run = id
else
  if meta ~= '' then redis.call('HSET', job_key(id), 'meta', meta) end
  if redis.call('EXISTS', job_key(run)) == 1 then return 1 end

  redis.call('HSET', job_key(run), unpack(hash))
  if redis.call('HGET', job_key(run), 'result_ttl') == '-1' then -- "forever", for the entry only
    redis.call('HDEL', job_key(run), 'result_ttl')
  end
  if next_score == '' then redis.call('DEL', job_key(id)) end
end

local _, text_now = clock()
redis.call('HSET', job_key(run), 'status', 'queued', 'enqueued_at', iso)
to_lane(run, queue, '5', text_now, redis.call('HGET', job_key(run), 'enqueue_at_front') == '1')
event('enqueued', run, read_job(run))
return 1
