-- Take the candidates of a shard into the head of its board, unless newer ones are known: any order, twice, in parallel.
-- KEYS: meta, top of the board.  ARGV: prefix, board, size of the top, epoch, shard, version of the candidates, candidates.
-- Answers {epoch of the board or '0', version, snapshot or ''}.
-- The head keeps all shards' candidates as a small ranking of its own: its first places are those of the whole board.
local meta, top = KEYS[1], KEYS[2]
local prefix, board, size, epoch, shard, version = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4], ARGV[5], tonumber(ARGV[6])
local state = redis.call('HMGET', meta, 'epoch', 'version', 'building', 'updated', 'rankings')
local current, shown_version, changed = state[1], tonumber(state[2] or '0'), ''
local answer = {current or '0', shown_version, changed}
if epoch ~= current and epoch ~= state[3] then return answer end
local offers, offered = prefix .. epoch .. ':offers', prefix .. epoch .. ':offered'
if tonumber(redis.call('HGET', offers, shard) or '0') >= version then return answer end

local rank_key, users_key = prefix .. epoch .. ':rank', prefix .. epoch .. ':users'
local updated, traces, found = unpack(cmsgpack.unpack(ARGV[7]))
local before = redis.call('HGET', offered, shard)
if before then
  local gone, ids = cmsgpack.unpack(before), {}
  for at, member in ipairs(gone) do ids[at] = user_of(member) end
  in_slices('ZREM', rank_key, gone, 1000)
  in_slices('HDEL', users_key, ids, 1000)
end
local members, scores, values = {}, {}, {}
for at = 1, #found, 3 do
  local member = found[at]
  members[#members + 1] = member
  scores[#scores + 1], scores[#scores + 2] = found[at + 1], member
  values[#values + 1], values[#values + 2] = user_of(member), '0|0|' .. string.sub(member, 1, 16) .. '|' .. found[at + 2]
end
in_slices('ZADD', rank_key, scores, 1000)
in_slices('HSET', users_key, values, 1000)
redis.call('HSET', offers, shard, version)
redis.call('HSET', offered, shard, cmsgpack.pack(members))

local newest = state[4] or ''
if updated > newest then
  newest = updated
  redis.call('HSET', meta, 'updated', newest)
end
if epoch == current then
  answer[2], answer[3] = show(meta, top, prefix, board, size, epoch, shown_version, state[5], newest, traces)
end
return answer
