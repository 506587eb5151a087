-- empty: take waiting jobs out of a queue: ours are cancelled, foreign ones are deleted as RQ does. No more than `most`
-- in one call, for nobody else is served meanwhile.
-- ARGV: iso time · queue · most. Returns {how many there were, 1 if there may be more}.
local iso, queue, most = ARGV[1], ARGV[2], tonumber(ARGV[3])
local count, looked = 0, 0

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
  while looked < most do
    local id = redis.call('LPOP', key)
    if not id then break end
    looked = looked + 1
    refill(key)
    drop(id)
  end
  forget_turns(key)
end
local parked = W .. 'parked_of:' .. queue
if looked < most then
  for _, id in ipairs(redis.call('ZRANGE', parked, 0, most - looked - 1)) do
    looked = looked + 1
    drop(id)
    uncount(id, queue) -- also one whose hash somebody deleted
  end
end
return {count, looked >= most and 1 or 0}
