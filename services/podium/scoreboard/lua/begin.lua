-- Begin to build a new epoch. KEYS: meta, top.  ARGV: prefix, epoch.  Answers 1, or 0 where a newer epoch is known.
-- An epoch that was left half built is thrown away.
local meta = KEYS[1]
local prefix, epoch = ARGV[1], ARGV[2]
local state = redis.call('HMGET', meta, 'epoch', 'building')
if tonumber(state[1] or '0') >= tonumber(epoch) or tonumber(state[2] or '0') >= tonumber(epoch) then return 0 end
if state[2] then
  redis.call('UNLINK', prefix .. state[2] .. ':rank', prefix .. state[2] .. ':users', prefix .. state[2] .. ':writers')
end
redis.call('HSET', meta, 'building', epoch)
return 1
