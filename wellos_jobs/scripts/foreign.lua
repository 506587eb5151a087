-- foreign: RQ's own code has run this job and stored how it ended; let go of our lease and tell the ledger.
-- ARGV: id · run · worker · detail (JSON of the event). Returns 1, or 0 when the claim is no longer this run's.
local id, run, worker = ARGV[1], ARGV[2], ARGV[3]
local h = head(id)
if not redis.call('ZSCORE', LEASES, id) or h.run and h.run ~= run then return 0 end
h.worker = worker
release(id, h)
local names = {finished = 'completed', failed = 'failed', stopped = 'canceled', canceled = 'canceled',
  scheduled = 'retried', queued = 'retried', deferred = 'snoozed'}
event(names[h.status or 'finished'] or 'completed', id, h, ARGV[4])
return 1
