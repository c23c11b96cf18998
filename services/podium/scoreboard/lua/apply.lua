-- Apply absolute scores to the current epoch and, while one is being built, to that as well.
-- KEYS: meta, top.  ARGV: prefix, board, size of the top, writer, epoch ('' all, else only this one: a rebuild's chunk),
-- then for each update: user, version, score, reachedAt (16 digits), hidden (0/1), username, updatedAt, traceparent or ''.
-- Answers {'ok', epoch, version, snapshot or '', {epoch, writes of this writer, …}}, or {'missing'} where there is no
-- ranking to write to, or {'superseded'} where the chunk's epoch is not being built any more.
local meta, top = KEYS[1], KEYS[2]
local prefix, board, size, writer, only = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4], ARGV[5]
local state = redis.call('HMGET', meta, 'epoch', 'version', 'building', 'updated', 'rankings')
local epoch, version, building, updated, shown = state[1], tonumber(state[2] or '0'), state[3], state[4] or '', state[5]

local targets = {}
if only ~= '' then
  if building ~= only then return {'superseded'} end
  targets[1] = building
else
  if epoch then targets[#targets + 1] = epoch end
  if building then targets[#targets + 1] = building end
  if #targets == 0 then return {'missing'} end
end

local touched, traces = false, {}
local newest = updated
for at = 6, #ARGV, 8 do
  local user, next_version, score, reached = ARGV[at], tonumber(ARGV[at + 1]), ARGV[at + 2], ARGV[at + 3]
  local hidden, username, updated_at, trace = ARGV[at + 4], ARGV[at + 5], ARGV[at + 6], ARGV[at + 7]
  local member = reached .. ':' .. user
  for _, target in ipairs(targets) do
    local rank_key, users_key = prefix .. target .. ':rank', prefix .. target .. ':users'
    local packed = redis.call('HGET', users_key, user)
    local old_version, was_hidden, old_reached
    if packed then old_version, was_hidden, old_reached = parse_user(packed) end
    if not packed or old_version < next_version then
      local live = target == epoch
      local mattered = false
      if packed and not was_hidden then
        local old_member = old_reached .. ':' .. user
        mattered = live and (redis.call('ZRANK', rank_key, old_member) or size) < size
        if old_member ~= member or hidden == '1' then redis.call('ZREM', rank_key, old_member) end
      end
      if hidden == '0' then
        redis.call('ZADD', rank_key, string.format('%.0f', 0 - tonumber(score)), member)
        mattered = mattered or (live and redis.call('ZRANK', rank_key, member) < size)
      end
      redis.call('HSET', users_key, user, string.format('%.0f', next_version) .. '|' .. hidden .. '|' .. reached .. '|' .. username)
      if updated_at > newest then newest = updated_at end
      if mattered then
        touched = true
        if trace ~= '' and #traces < 32 then traces[#traces + 1] = trace end
      end
    end
  end
end
if newest ~= updated then redis.call('HSET', meta, 'updated', newest) end

local writes = {}
for _, target in ipairs(targets) do
  writes[#writes + 1] = target
  writes[#writes + 1] = redis.call('HINCRBY', prefix .. target .. ':writers', writer, 1)
end

local changed = ''
if epoch and only == '' and touched then
  local rankings = places(prefix, epoch, 0, size - 1)
  if rankings ~= shown then
    version = version + 1
    changed = snapshot(board, epoch, version, rankings, newest, traces)
    redis.call('HSET', meta, 'version', version, 'rankings', rankings)
    redis.call('SET', top, changed)
  end
end
return {'ok', epoch or '0', version, changed, writes}
