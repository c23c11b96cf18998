-- Write rows of PostgreSQL to an epoch that is being built, in bulk. KEYS: meta (of the board, or of one of its shards).
-- ARGV: prefix, writer, epoch, lastUpdated of the newest row, rows as MessagePack: one list of
-- member, score (negated points; false: hidden) and the user's value in turns.
-- Answers how many writes of this writer the epoch counts, or false where it is not being built any more.
local meta, prefix, writer, epoch, newest = KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local state = redis.call('HMGET', meta, 'building', 'updated')
if state[1] ~= epoch then return false end
local rows = cmsgpack.unpack(ARGV[5])
local rank_key, users_key = prefix .. epoch .. ':rank', prefix .. epoch .. ':users'

local ids = {}
for at = 1, #rows, 3 do ids[#ids + 1] = user_of(rows[at]) end
local known, values, scores = many('HMGET', users_key, ids), {}, {}
for at, id in ipairs(ids) do
  local member, score, packed = rows[3 * at - 2], rows[3 * at - 1], rows[3 * at]
  if not known[at] then
    values[#values + 1], values[#values + 2] = id, packed
    if score then scores[#scores + 1], scores[#scores + 2] = string.format('%.0f', score), member end
  else  -- an update was here first; the newer version is true
    local version, hidden, reached, username = parse_user(packed)
    write_user(prefix, epoch, 0, id, version, score and string.format('%.0f', -score) or '0', reached, hidden and '1' or '0', username)
  end
end
in_slices('HSET', users_key, values, 1000)
in_slices('ZADD', rank_key, scores, 1000)
if newest > (state[2] or '') then redis.call('HSET', meta, 'updated', newest) end
return redis.call('HINCRBY', prefix .. epoch .. ':writers', writer, 1)
