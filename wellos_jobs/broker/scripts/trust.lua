-- trust: the data of this run of the server were compared with the rows: let workers claim.
-- ARGV: identity of the run

local key = W .. 'trusted'
redis.call('HDEL', key, 'new', 'since')
redis.call('HSET', key, 'run', ARGV[1])
return 1
