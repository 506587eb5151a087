-- foreign: RQ's code has run a foreign job and stored how it ended: end our lease and
-- append the event.
-- ARGV: id · run · worker · '1' if it ran without an error · detail (a JSON object for the event)
-- Returns the name of the event, or '' if the run no longer holds the claim.
-- Includes: bell, lanes, limits, lifecycle

local id, run, worker, ran_well, detail = ARGV[1], ARGV[2], ARGV[3], ARGV[4] == '1', ARGV[5]
local EVENT_OF = {
  finished = 'completed',
  failed = 'failed',
  stopped = 'canceled',
  canceled = 'canceled',
  deferred = 'snoozed',
}

local h = read_job(id)
if not redis.call('ZSCORE', LEASES, id) or h.run and h.run ~= run then return '' end
h.worker = worker
release(id, h)

local runs_again = h.status == 'queued' or h.status == 'scheduled'
local at = h.status == 'scheduled' and redis.call('ZSCORE', rq_key('scheduled', h.queue), id)
local name = EVENT_OF[h.status]
  or (ran_well and 'completed' or runs_again and 'retried' or 'failed')

local is_delayed_retry = name == 'retried' and at
if is_delayed_retry then
  local after = math.max(0, tonumber(at) - clock())
  detail = string.sub(detail, 1, -2) .. string.format(',"after":%.6f}', after)
end
event(name, id, h, detail)

if runs_again and not is_delayed_retry then -- an immediate retry, or the next run of a repeated job
  h.worker = ''
  event('enqueued', id, h, at and '{"run_at":' .. at .. '}' or '')
end
return name
