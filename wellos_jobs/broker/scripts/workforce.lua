-- workforce: who works here: the supervisors, and the workers with what they are in. Reads only.
-- ARGV: how many of each at most
-- Returns {now, token of the leader or '', 1 if a clock leads, 1 if all work is suspended, number of workers,
--   {{token, facts, beat, quiet}...}, {{name, fields of the worker..., lease, fields of its job...}...}}
local WORKER = {'state', 'current_job', 'pid', 'hostname', 'version', 'queues', 'birth', 'last_heartbeat', 'w:supervisor',
  'w:memory', 'w:quiet', 'successful_job_count', 'failed_job_count'}
local JOB = {'w:name', 'description', 'origin', 'started_at'}
local most = tonumber(ARGV[1])
local _, text_now = clock()

local supervisors = {}
for _, token in ipairs(redis.call('ZREVRANGE', W .. 'supervisors', 0, most - 1)) do
  local v = redis.call('HMGET', W .. 'supervisor:' .. token, 'facts', 'beat', 'quiet')
  if v[1] then supervisors[#supervisors + 1] = {token, v[1], v[2] or '', v[3] or ''} end
end

local function textual(values, row)
  for i = 1, #values do row[#row + 1] = values[i] or '' end
end

local workers = {}
for _, key in ipairs(redis.call('SMEMBERS', P .. ':workers')) do
  if #workers >= most then break end
  local v = redis.call('HMGET', key, unpack(WORKER))
  if v[7] then -- else it has expired
    local row = {string.sub(key, #(P .. ':worker:') + 1)}
    textual(v, row)
    local id = v[2] or ''
    row[#row + 1] = id ~= '' and redis.call('ZSCORE', LEASES, id) or ''
    textual(id ~= '' and redis.call('HMGET', job_key(id), unpack(JOB)) or {'', '', '', ''}, row)
    workers[#workers + 1] = row
  end
end
return {text_now, redis.call('GET', W .. 'leader') or '', redis.call('EXISTS', W .. 'clock'),
  redis.call('EXISTS', P .. ':suspended'), redis.call('SCARD', P .. ':workers'), supervisors, workers}
