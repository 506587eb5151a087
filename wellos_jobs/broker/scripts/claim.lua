-- claim: give a worker its next job under a lease, in one step: there is no moment in which a popped job is in no
-- structure. Needs lib and claiming.
-- ARGV: worker · number of the call · the process's nonce · queue set · iso time · lease in seconds
-- Returns {0, next due, id, fields}; an error NOSET when the queue set is not registered (Redis came back empty).
local worker, seq, nonce, set, iso, lease = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], tonumber(ARGV[6])
local settled, id, due = answered(worker, nonce, seq)
if not settled then
  local quiet = id
  if redis.call('EXISTS', W .. 'set:' .. set) == 0 then return redis.error_reply('NOSET ' .. set) end
  id, due = claim_next(set, worker, nonce, seq, iso, lease, quiet)
  remember(worker, nonce, seq, 0, id, due)
end
return answer(0, id, due)
