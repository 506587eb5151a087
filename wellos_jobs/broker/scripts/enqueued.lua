-- enqueued: foreign code has put in a job through RQ's API: tell the ledger and wake a worker.
-- ARGV: id · queue · when it is to run, in seconds ('' = now)
local _, text_now = clock()
local id, queue, at = ARGV[1], ARGV[2], ARGV[3]
if at == '' then
  redis.call('HSETNX', job_key(id), 'w:since', text_now)
  announce(queue, '5', text_now)
end
event('enqueued', id, head(id), at ~= '' and '{"run_at":' .. at .. '}' or '')
return 1
