-- Places of a shard. KEYS: meta of the shard.  ARGV: prefix, epoch, first, last (from 0).
-- Answers a list of member, score and username, or false where the shard lacks the epoch.
local state = redis.call('HMGET', KEYS[1], 'epoch', 'building')
if state[1] ~= ARGV[2] and state[2] ~= ARGV[2] then return false end
return entries(ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]))
