-- limit_board: how full the limits are and whether breakers are open. Reads only.
-- ARGV: how many to look for at most · for each limit that is known by the code, or sought: its id and, of a breaker, the
-- seconds within which failures count ('' for others)
-- Looked at are these, those whose number a person has set, those at which jobs wait, and those of active jobs.
-- Returns {now, number of limits at which jobs wait, {{id, limit (JSON, '' = not known), number set by a person or '',
--   waiting, used, since, until, probe}...}}: `used` is runs, starts in the period or failures; the rest is of open breakers,
--   `since` of a limit of starts is that of the first in the period.
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
  local fine, limits = pcall(cjson.decode, text or '[]')
  for _, limit in ipairs(fine and limits or {}) do note(limit.id, cjson.encode(limit)) end
end

local rows = {}
for _, id in ipairs(order) do
  local kind, used, v = string.sub(id, 1, 2), 0, {}
  local since = ''
  if kind == 'c:' then
    used = redis.call('ZCARD', running_in(id))
  elseif kind == 'r:' then
    local period = tonumber(string.match(id, '/([^/]+)$') or '') or 0
    local first = redis.call('ZRANGEBYSCORE', starts_of(id), now - period, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
    used = redis.call('ZCOUNT', starts_of(id), now - period, '+inf')
    since = first[2] or ''
  elseif kind == 'b:' then
    local within = tonumber(known[id].within)
    used = redis.call('ZCOUNT', failures_of(id), within and now - within or '-inf', '+inf')
    v = redis.call('HMGET', breaker_of(id), 'since', 'until', 'probe')
  end
  rows[#rows + 1] = {id, known[id].text or '', redis.call('HGET', W .. 'limits', id) or '',
    redis.call('ZCARD', parked_in(id)), used, v[1] or since, v[2] or '', v[3] or ''}
end
return {text_now, redis.call('HLEN', W .. 'gated'), rows}
