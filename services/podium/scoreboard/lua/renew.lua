-- Renew leases, those that were lost included. KEYS: the set of leases.  ARGV: seconds, connections…
local expiry = tonumber(redis.call('TIME')[1]) + tonumber(ARGV[1])
for i = 2, #ARGV do
  redis.call('ZADD', KEYS[1], expiry, ARGV[i])
end
redis.call('EXPIRE', KEYS[1], ARGV[1])
return 1
