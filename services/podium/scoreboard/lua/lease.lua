-- Take a lease on a connection if fewer than the limit are held. KEYS: the set of leases.
-- ARGV: connection, limit, seconds.  Answers 1 or 0. Leases of dead pods run out by themselves.
local now = tonumber(redis.call('TIME')[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[2]) then return 0 end
redis.call('ZADD', KEYS[1], now + tonumber(ARGV[3]), ARGV[1])
redis.call('EXPIRE', KEYS[1], ARGV[3])
return 1
