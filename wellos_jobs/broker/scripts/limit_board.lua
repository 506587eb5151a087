-- limit_board: how full the limits are, and which breakers are open. Read-only.
-- ARGV: how many limits at most · for each limit that is declared in code or searched for: its id
--   and, for a breaker, the seconds within which failures count ('' for others)
-- It also reports limits whose number an operator has set, limits at which jobs wait, and limits
-- of active jobs.
-- Returns {now, number of limits at which jobs wait, {{id, limit (JSON, '' if unknown), number set
--   by an operator or '', waiting, used, since, until, probe}...}}. `used` counts runs, starts in
--   the period, or failures. since, until and probe belong to open breakers; for a rate limit,
--   `since` is the first start in the period.
-- Includes: bell, lanes, limits

local most = tonumber(ARGV[1])
local now, text_now = clock()
local order, known = {}, {}

local function note(id, text)
  if not known[id] and #order >= most then return end
  if not known[id] then order[#order + 1] = id end
  known[id] = known[id] or {within = ''}
  if text then known[id].text = text end
end

for i = 2, #ARGV, 2 do
  order[#order + 1] = ARGV[i]
  known[ARGV[i]] = {within = ARGV[i + 1]}
end

for _, id in ipairs(redis.call('HKEYS', W .. 'limits')) do note(id) end

for _, id in ipairs(redis.call('ZRANGE', GATES, 0, most - 1)) do
  local text = redis.call('HGET', W .. 'gated', id)
  if text then note(id, text) end
end

for _, job in ipairs(redis.call('ZREVRANGE', LEASES, 0, most - 1)) do
  local text = redis.call('HGET', job_key(job), 'w:limits')
  local readable, limits = pcall(cjson.decode, text or '[]')
  for _, limit in ipairs(readable and limits or {}) do note(limit.id, cjson.encode(limit)) end
end

-- Return how much of a limit is used; then since, until and probe.
local function usage(id)
  local kind = string.sub(id, 1, 2)
  if kind == 'c:' then return redis.call('ZCARD', own_key('running', id)), '', '', '' end

  if kind == 'r:' then
    local from = now - (tonumber(string.match(id, '/([^/]+)$') or '') or 0)
    local starts = own_key('starts', id)
    local first = redis.call('ZRANGEBYSCORE', starts, from, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
    return redis.call('ZCOUNT', starts, from, '+inf'), first[2] or '', '', ''
  end

  if kind == 'b:' then
    local within = tonumber(known[id].within)
    local v = redis.call('HMGET', own_key('breaker', id), 'since', 'until', 'probe')
    local from = within and now - within or '-inf'
    local failures = redis.call('ZCOUNT', own_key('failures', id), from, '+inf')
    return failures, v[1] or '', v[2] or '', v[3] or ''
  end

  return 0, '', '', ''
end

local rows = {}
for _, id in ipairs(order) do
  local number = redis.call('HGET', W .. 'limits', id) or ''
  local waiting = redis.call('ZCARD', own_key('parked', id))
  rows[#rows + 1] = {id, known[id].text or '', number, waiting, usage(id)}
end
return {text_now, redis.call('HLEN', W .. 'gated'), rows}
