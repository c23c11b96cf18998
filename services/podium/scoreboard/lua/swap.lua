-- Make the epoch that was built the current one. KEYS: meta, top.
-- ARGV: prefix, board, size of the top, epoch, writer, writes the writer has made to it, lastUpdated of an empty board.
-- Answers the new snapshot, or false where the epoch is not being built any more or writes to it were lost.
-- UNLINK frees the old keys in a thread of their own, so a large board stops nobody.
local meta, top = KEYS[1], KEYS[2]
local prefix, board, size, epoch, writer, writes, never = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4], ARGV[5], tonumber(ARGV[6]), ARGV[7]
local state = redis.call('HMGET', meta, 'epoch', 'building', 'updated')
local old, building, updated = state[1], state[2], state[3] or never
if building ~= epoch then return false end
if tonumber(redis.call('HGET', prefix .. epoch .. ':writers', writer) or '0') < writes then return false end
if old then
  redis.call('UNLINK', prefix .. old .. ':rank', prefix .. old .. ':users', prefix .. old .. ':writers')
end
local rankings = places(prefix, epoch, 0, size - 1)
local new = snapshot(board, epoch, 1, rankings, updated, {})
redis.call('HDEL', meta, 'building')
redis.call('HSET', meta, 'epoch', epoch, 'version', 1, 'published', 0, 'updated', updated, 'rankings', rankings)
redis.call('SET', top, new)
return new
