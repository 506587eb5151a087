-- common: shared by all scripts and loaded in front of each of them. A script names its further
-- includes: they are run again with each call, so it takes only what it needs.
--
-- KEYS[1] is RQ's key prefix. Scripts run on one primary (a check refuses Cluster), so keys are
-- built here. Keys are in broker/keys.py as well, fields of a job's hash in broker/job_hash.py;
-- tests compare them.

local P = KEYS[1]
local W = P .. ':wellos:'

local FAR = '4102444800' -- year 2100: RQ's cleanup never reaches it, yet RQ can print the date

local EVENTS = W .. 'events'
local DUE = W .. 'due'
local LEASES = W .. 'leases'

-- RQ's key of a family, such as `rq:wip:<queue>`, and ours, such as `rq:wellos:ready:<queue set>`.
local function rq_key(family, name) return P .. ':' .. family .. ':' .. name end
local function own_key(family, name) return W .. family .. ':' .. name end

local function job_key(id) return P .. ':job:' .. id end
local function worker_key(name) return P .. ':worker:' .. name end

local function priorities() return {'1', '3', '5', '7', '10'} end

-- A lane is named `<priority>|<queue>`; the lane of jobs that wait for the same code
-- `<priority>+<code>|<queue>`. No code contains a bar.
local function lane_name(queue, priority, code)
  return priority .. (code and '+' .. code or '') .. '|' .. queue
end

-- Return the priority, the queue and the code of a lane; the code is nil in the lane of all jobs.
local function parts_of(lane)
  local priority, code, queue = string.match(lane, '^(%d+)%+?([^|]*)|(.*)$')
  return priority, queue, code ~= '' and code or nil
end

local function lane_key(lane)
  local priority, queue, code = parts_of(lane)
  if code then return own_key('lane', lane) end
  if priority == '5' then return P .. ':queue:' .. queue end
  return P .. ':queue:' .. queue .. ':p' .. priority
end

-- Return the names of the lanes of a queue, those of jobs that wait for code last.
local function lanes_of(queue)
  local found = {}
  for i, priority in ipairs(priorities()) do found[i] = lane_name(queue, priority) end
  for _, lane in ipairs(redis.call('SMEMBERS', own_key('code_lanes', queue))) do
    found[#found + 1] = lane
  end
  return found
end

-- Return the arguments of the script by these names, in the order of ARGV.
local function arguments(names)
  local found = {}
  for i, name in ipairs(names) do found[name] = ARGV[i] end
  return found
end

-- The Redis clock in seconds: as a number to compare, and as text to store (a Lua number would lose
-- digits).
local function clock()
  local t = redis.call('TIME')
  local text = t[1] .. '.' .. string.format('%06d', t[2])
  return tonumber(text), text
end

local function seconds_until(at, now)
  return string.format('%.3f', math.max(0, tonumber(at) - now))
end

-- Append an event to the stream: every transition has exactly one. `detail` is JSON text, or nil.
local function event(name, id, h, detail)
  redis.call('XADD', EVENTS, '*', 'e', name, 'id', id, 'n', h.name, 'q', h.queue, 'a', h.attempt,
    'w', h.worker, 'db', h.db, 'g', h.gen, 'd', detail or '')
end

-- Return a field of a job's hash; false if it is missing, or if the key holds another type.
local function field(id, name)
  local v = redis.pcall('HGET', job_key(id), name)
  return type(v) == 'string' and v
end

-- Return what scripts need to know of a job. A key of another type counts as a deleted job: it has
-- no status.
local function read_job(id)
  local v = redis.pcall('HMGET', job_key(id), 'status', 'origin', 'w:name', 'w:prio', 'w:attempt',
    'w:max', 'w:db', 'w:gen', 'w:run', 'worker_name', 'w:cancel', 'w:limits', 'w:parked', 'w:code',
    'w:held')
  if v.err then v = {} end

  return {
    status = v[1],
    queue = v[2] or '',
    name = v[3] or '',
    priority = v[4] or '5',
    attempt = tonumber(v[5] or '0') or 0,
    max = tonumber(v[6] or '3') or 3,
    db = v[7] or '',
    gen = v[8] or '0',
    run = v[9],
    worker = v[10] or '',
    cancel = v[11],
    limits = v[12],
    parked = v[13],
    code = v[14] or (v[3] or '') .. '@1',
    held = v[15] or nil,
    foreign = not v[3],
  }
end

-- Whether a member of a sorted set still has the score with which the caller read it.
local function has_score(key, member, score)
  local current = redis.call('ZSCORE', key, member)
  return current and tonumber(current) == tonumber(score)
end
