-- workforce: the live supervisors and workers, and the jobs they run. Read-only.
-- ARGV: how many of each at most
-- Returns {now, token of the leader or '', 1 if a scheduler leads, 1 if all work is suspended,
--   number of workers, {{token, facts, beat, quiet}...}, {{name, WORKER_FIELDS..., lease,
--   JOB_FIELDS...}...}}

local WORKER_FIELDS = {'state', 'current_job', 'pid', 'hostname', 'version', 'queues', 'birth',
  'last_heartbeat', 'w:supervisor', 'w:memory', 'w:quiet', 'successful_job_count',
  'failed_job_count'}
local JOB_FIELDS = {'w:name', 'description', 'origin', 'started_at'}

local most = tonumber(ARGV[1])
local _, text_now = clock()

local supervisors = {}
for _, token in ipairs(redis.call('ZREVRANGE', W .. 'supervisors', 0, most - 1)) do
  local v = redis.call('HMGET', own_key('supervisor', token), 'facts', 'beat', 'quiet')
  if v[1] then supervisors[#supervisors + 1] = {token, v[1], v[2] or '', v[3] or ''} end
end

local function append(row, values)
  for i = 1, #values do row[#row + 1] = values[i] or '' end
end

local function row_of(key, v)
  local row = {string.sub(key, #worker_key('') + 1)}
  append(row, v)

  local id = v[2] or ''
  if id == '' then
    append(row, {'', '', '', '', ''})
  else
    append(row, {redis.call('ZSCORE', LEASES, id) or ''})
    append(row, redis.call('HMGET', job_key(id), unpack(JOB_FIELDS)))
  end
  return row
end

local workers = {}
for _, key in ipairs(redis.call('SMEMBERS', P .. ':workers')) do
  if #workers >= most then break end
  local v = redis.call('HMGET', key, unpack(WORKER_FIELDS))
  local birth = v[7]
  if birth then workers[#workers + 1] = row_of(key, v) end -- else the key has expired
end

return {
  text_now,
  redis.call('GET', W .. 'leader') or '',
  redis.call('EXISTS', W .. 'clock'),
  redis.call('EXISTS', P .. ':suspended'),
  redis.call('SCARD', P .. ':workers'),
  supervisors,
  workers,
}
