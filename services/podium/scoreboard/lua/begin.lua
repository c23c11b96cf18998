-- Begin to build a new epoch. KEYS: meta of the board.  ARGV: prefix, epoch, shards it will have, season of its scores.
-- Answers the shards of the current epoch (0: there is none), or false where a newer epoch is known.
-- An epoch that was left half built is thrown away.
local meta = KEYS[1]
local prefix, epoch, shards = ARGV[1], ARGV[2], ARGV[3]
local state = redis.call('HMGET', meta, 'epoch', 'building', 'shards', 'building_shards')
if tonumber(state[1] or '0') >= tonumber(epoch) or tonumber(state[2] or '0') >= tonumber(epoch) then return false end
if state[2] then
  drop(prefix, state[2])
  if (state[4] or '1') ~= '1' and state[4] ~= shards then redis.call('HSET', meta, 'retiring', state[4]) end
end
redis.call('HSET', meta, 'building', epoch, 'building_shards', shards, 'building_season', ARGV[4])
return state[1] and tonumber(state[3] or '1') or 0
