-- empty: take every waiting job out of a queue: ours are cancelled, foreign ones are deleted as RQ does.
-- ARGV: iso time · queue. Returns how many there were.
local iso, queue = ARGV[1], ARGV[2]
local count = 0

local function drop(id)
  local h = head(id)
  if h.status ~= 'queued' then return end
  count = count + 1
  if h.parked then unpark_one(id, h) end
  if h.foreign then
    redis.call('DEL', job_key(id), P .. ':results:' .. id, job_key(id) .. ':dependents')
  else
    finish(id, h, 'canceled', 'canceled', iso)
  end
  h.worker = ''
  event('canceled', id, h, '{"message":"queue emptied"}')
end

for _, priority in ipairs({'1', '3', '5', '7', '10'}) do
  local key = lane_key(queue, priority)
  while true do
    local id = redis.call('LPOP', key)
    if not id then break end
    refill(key)
    drop(id)
  end
end
for _, id in ipairs(redis.call('ZRANGE', W .. 'parked_of:' .. queue, 0, -1)) do drop(id) end
redis.call('DEL', W .. 'parked_of:' .. queue) -- and those whose hash somebody deleted
return count
