-- foreign: RQ's own code has run this job and stored how it ended; let go of our lease and tell the ledger.
-- ARGV: id · run · worker · '1' if it ran without an error · detail (a JSON object for the event)
-- Returns the name of the event, or '' when the claim is no longer this run's.
local id, run, worker, ran_well, detail = ARGV[1], ARGV[2], ARGV[3], ARGV[4] == '1', ARGV[5]
local h = head(id)
if not redis.call('ZSCORE', LEASES, id) or h.run and h.run ~= run then return '' end
h.worker = worker
release(id, h)
local at = h.status == 'scheduled' and redis.call('ZSCORE', P .. ':scheduled:' .. h.queue, id)
local again = h.status == 'queued' or h.status == 'scheduled'
local names = {finished = 'completed', failed = 'failed', stopped = 'canceled', canceled = 'canceled', deferred = 'snoozed'}
local name = names[h.status] or (ran_well and 'completed' or again and 'retried' or 'failed')
if name == 'retried' and at then
  detail = string.sub(detail, 1, -2) .. string.format(',"after":%.6f}', math.max(0, tonumber(at) - clock()))
end
event(name, id, h, detail)
if again and not (name == 'retried' and at) then -- a retry at once, or one more time of a repeat
  h.worker = ''
  event('enqueued', id, h, at and '{"run_at":' .. at .. '}' or '')
end
return name
