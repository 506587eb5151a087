-- ring: an idle worker leaves and may have taken the token along: if work waits, wake another. ARGV: queue set
if redis.call('EXISTS', W .. 'ready:' .. ARGV[1]) == 1 then ring(ARGV[1]) end
return 1
