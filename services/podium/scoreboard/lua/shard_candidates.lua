-- The first places of a shard, to be offered anew. KEYS: meta of the shard.
-- ARGV: prefix, epoch, places of the top (0: as many as before).  Answers candidates, or false where the epoch is not there.
local meta, prefix, epoch, size = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3])
local state = redis.call('HMGET', meta, 'epoch', 'building', 'size', 'updated')
if state[1] ~= epoch and state[2] ~= epoch then return false end
if size > 0 then redis.call('HSET', meta, 'size', size) else size = tonumber(state[3] or '0') end
return candidates(meta, prefix, epoch, size, state[4] or '', {})
