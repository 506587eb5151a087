-- claim: give a worker its next job under a lease, in one step: a popped job is never without a
-- structure.
-- Returns the answer of claiming.lua with 0 for settled; an error NOSET if the queue set is not
-- registered (Redis has lost its data, or the set has expired).
-- Includes: bell, lanes, limits, lifecycle, claiming

local call = arguments({'worker', 'number', 'nonce', 'queue_set', 'time', 'lease'})

local settled, id, due = answered(call)
if not settled then
  local quiet = id
  if redis.call('EXISTS', own_key('set', call.queue_set)) == 0 then
    return redis.error_reply('NOSET ' .. call.queue_set)
  end
  id, due = claim_next(call, quiet)
  remember(call, 0, id, due)
end
return answer(0, id, due)
