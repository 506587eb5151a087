-- enqueued: a job was enqueued through RQ's API: add its event and wake a worker.
-- ARGV: id · queue · time at which it is to run, in seconds ('' for now)
-- Includes: bell

local id, queue, at = ARGV[1], ARGV[2], ARGV[3]
local _, text_now = clock()

if at == '' then
  redis.call('HSETNX', job_key(id), 'w:since', text_now)
  announce('5|' .. queue, text_now)
end
event('enqueued', id, read_job(id), at ~= '' and '{"run_at":' .. at .. '}' or '')
return 1
