-- Note that a version was published; it only grows within an epoch. KEYS: meta.  ARGV: epoch, version.
local state = redis.call('HMGET', KEYS[1], 'epoch', 'published')
if state[1] == ARGV[1] and tonumber(state[2] or '0') < tonumber(ARGV[2]) then
  redis.call('HSET', KEYS[1], 'published', ARGV[2])
end
return 1
