-- Begin to build a new epoch. KEYS: meta of the board.  ARGV: prefix, epoch, shards it will have.
-- Answers the shards of the current epoch (0: there is none), or false where a newer epoch is known.
-- An epoch that was left half built is thrown away.
local meta = KEYS[1]
local prefix, epoch, shards = ARGV[1], ARGV[2], ARGV[3]
local state = redis.call('HMGET', meta, 'epoch', 'building', 'shards')
if tonumber(state[1] or '0') >= tonumber(epoch) or tonumber(state[2] or '0') >= tonumber(epoch) then return false end
if state[2] then drop(prefix, state[2]) end
redis.call('HSET', meta, 'building', epoch, 'building_shards', shards)
return state[1] and tonumber(state[3] or '1') or 0
