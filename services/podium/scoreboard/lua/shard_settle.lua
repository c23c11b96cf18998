-- Bring a shard to the board's current epoch: promote what was built, free what is older.
-- KEYS: meta of the shard.  ARGV: prefix, current epoch of the board, whether it has this layout (1/0).
-- Answers the version of the shard's candidates, or false where the shard lacks the epoch.
local meta, prefix, epoch, here = KEYS[1], ARGV[1], ARGV[2], ARGV[3] == '1'
local state = redis.call('HMGET', meta, 'epoch', 'building', 'version:' .. epoch, 'building_season')
local held, building = state[1], state[2]
if held ~= epoch then
  if held and tonumber(held) < tonumber(epoch) then
    drop(prefix, held)
    redis.call('HDEL', meta, 'epoch', 'version:' .. held)
    held = false
  end
  if building and tonumber(building) <= tonumber(epoch) then
    if here and building == epoch then
      redis.call('HSET', meta, 'epoch', epoch, 'season', state[4] or '1')
      held = epoch
    else
      drop(prefix, building)
      redis.call('HDEL', meta, 'version:' .. building)
    end
    redis.call('HDEL', meta, 'building', 'building_shards', 'building_season')
    building = false
  end
  if not held and not building then redis.call('DEL', meta) end
end
if held ~= epoch then return false end
return tonumber(state[3] or '0')
