-- ring: an idle worker leaves, and may have taken the token of the bell: if work waits, wake
-- another one.
-- ARGV: queue set
-- Includes: bell

local set = ARGV[1]
if redis.call('EXISTS', own_key('ready', set)) == 1 then ring(set) end
return 1
