-- empty: take every waiting job out of a queue: ours are cancelled, foreign ones are deleted as RQ does.
-- ARGV: iso time · queue. Returns how many there were.
local iso, queue = ARGV[1], ARGV[2]
local count = 0
for _, priority in ipairs({'1', '3', '5', '7', '10'}) do
  local key = lane_key(queue, priority)
  while true do
    local id = redis.call('LPOP', key)
    if not id then break end
    local h = head(id)
    if h.status == 'queued' then
      count = count + 1
      if h.foreign then
        redis.call('DEL', job_key(id), P .. ':results:' .. id, job_key(id) .. ':dependents')
      else
        finish(id, h, 'canceled', 'canceled', iso)
      end
      h.worker = ''
      event('canceled', id, h, '{"message":"queue emptied"}')
    end
  end
end
return count
