-- rearm: one due entry of rq-scheduler's set becomes a run, and is set to its next time, in one step.
-- ARGV: iso time · key of the set · entry id · the score it was read with · next score ('' = it was the last run) ·
--       id of the run ('' = the entry itself runs) · new meta of the entry ('' = unchanged) · queue
-- Returns 1 done, 0 the entry was changed or taken meanwhile, -1 its hash is gone (the entry is dropped).
local iso, key, id, score, next_score, run, meta, queue = unpack(ARGV)
local held = redis.call('ZSCORE', key, id)
if not held or tonumber(held) ~= tonumber(score) then return 0 end
local hash = redis.call('HGETALL', job_key(id))
if #hash == 0 then
  redis.call('ZREM', key, id)
  return -1
end
if next_score == '' then redis.call('ZREM', key, id) else redis.call('ZADD', key, next_score, id) end
if run ~= '' then
  if meta ~= '' then redis.call('HSET', job_key(id), 'meta', meta) end
  if redis.call('EXISTS', job_key(run)) == 1 then return 1 end
  redis.call('HSET', job_key(run), unpack(hash))
  if redis.call('HGET', job_key(run), 'result_ttl') == '-1' then
    redis.call('HDEL', job_key(run), 'result_ttl') -- rq-scheduler's 'for ever' is meant for the entry only
  end
  if next_score == '' then redis.call('DEL', job_key(id)) end
else
  run = id
end
local _, text_now = clock()
redis.call('HSET', job_key(run), 'status', 'queued', 'enqueued_at', iso)
to_lane(run, queue, '5', text_now, redis.call('HGET', job_key(run), 'enqueue_at_front') == '1')
event('enqueued', run, head(run))
return 1
