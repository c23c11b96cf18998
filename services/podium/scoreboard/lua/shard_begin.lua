-- Tell a shard of an epoch that is being built, with this or another number of shards.
-- KEYS: meta of the shard.  ARGV: prefix, epoch, shards it will have, places of the board's top, season.
-- Answers 1, or 0 where a newer epoch is known.
local meta = KEYS[1]
local prefix, epoch, shards, size = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local state = redis.call('HMGET', meta, 'epoch', 'building')
if tonumber(state[1] or '0') >= tonumber(epoch) or tonumber(state[2] or '0') > tonumber(epoch) then return 0 end
if state[2] and state[2] ~= epoch then
  drop(prefix, state[2])
  redis.call('HDEL', meta, 'version:' .. state[2])
end
redis.call('HSET', meta, 'building', epoch, 'building_shards', shards, 'size', size, 'building_season', ARGV[5])
return 1
