-- empty: remove the waiting jobs of a queue. Ours are canceled, foreign ones are deleted, as RQ
-- does.
-- ARGV: iso time · queue · how many jobs at most (Redis serves no other client meanwhile)
-- Returns {number of jobs removed, 1 if there may be more}.
-- Includes: bell, lanes, limits, lifecycle

local iso, queue, most = ARGV[1], ARGV[2], tonumber(ARGV[3])
local detail = '{"message":"queue emptied"}'
local count, looked = 0, 0

local function drop(id)
  local h = read_job(id)
  if h.status ~= 'queued' then return end

  count = count + 1
  if h.parked then unpark_one(id, h) end
  if h.foreign then
    redis.call('DEL', job_key(id), P .. ':results:' .. id, job_key(id) .. ':dependents')
    h.worker = ''
    event('canceled', id, h, detail)
  else
    finish_canceled(id, h, iso, detail)
  end
end

for _, name in ipairs(lanes_of(queue)) do
  local _, _, code = parts_of(name)
  local lane = lane_key(name)
  while looked < most do
    local id = redis.call('LPOP', lane)
    if not id then break end
    looked = looked + 1
    refill(lane)
    if code then leave_code_lane(id, name, queue) end
    drop(id)
  end
  forget_turns(lane)
end

if looked < most then
  for _, id in ipairs(redis.call('ZRANGE', own_key('parked_of', queue), 0, most - looked - 1)) do
    looked = looked + 1
    drop(id)
    uncount(id, queue) -- even if its hash was deleted
  end
end
return {count, looked >= most and 1 or 0}
