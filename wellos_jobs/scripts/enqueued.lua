-- enqueued: foreign code has pushed a job through RQ's API: tell the ledger and wake a worker.
-- ARGV: id · queue
local _, text_now = clock()
local id, queue = ARGV[1], ARGV[2]
redis.call('HSETNX', job_key(id), 'w:since', text_now)
announce(queue, '5', text_now)
event('enqueued', id, head(id))
return 1
