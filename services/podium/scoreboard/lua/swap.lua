-- Make the epoch that was built the current one. KEYS: meta, top of the board.
-- ARGV: prefix, board, size of the top, epoch, writer, writes the writer has made to it (0: it is spread over shards, which
-- were looked at), lastUpdated of an empty board, Unix time.
-- Answers the new snapshot, or false where the epoch is not being built any more or writes to it were lost.
local meta, top = KEYS[1], KEYS[2]
local prefix, board, size, epoch, writer, writes, never = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4], ARGV[5], tonumber(ARGV[6]), ARGV[7]
local state = redis.call('HMGET', meta, 'epoch', 'building', 'updated', 'shards', 'building_shards', 'building_season')
local old, building, updated, old_shards, shards = state[1], state[2], state[3] or never, state[4] or '1', state[5] or '1'
if building ~= epoch then return false end
if tonumber(redis.call('HGET', prefix .. epoch .. ':writers', writer) or '0') < writes then return false end
if old then
  drop(prefix, old)
  if old_shards ~= '1' and old_shards ~= shards then redis.call('HSET', meta, 'retiring', old_shards) end
end
local rankings = places(prefix, epoch, 0, size - 1)
local new = snapshot(board, epoch, 1, rankings, updated, {})
redis.call('HDEL', meta, 'building', 'building_shards', 'building_season')
redis.call('HSET', meta, 'epoch', epoch, 'version', 1, 'published', 0, 'updated', updated, 'rankings', rankings, 'shards', shards,
  'season', state[6] or '1', 'checked', ARGV[8], 'drifted', 0)
redis.call('SET', top, new)
return new
