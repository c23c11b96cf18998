-- Apply absolute scores to one shard of a board. KEYS: meta of the shard.  ARGV: prefix, shards of this layout, writer,
-- epoch ('' all, else only this one), then updates as apply.lua has them.
-- Answers {'ok', {epoch, writes of this writer, …}, epoch that is being built with other shards or '0', its shards,
-- {candidates of each epoch whose first places changed}, 1 where an update is of a newer season}; {'missing'} or {'superseded'} as apply.lua does.
local meta = KEYS[1]
local prefix, shards, writer, only = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local state = redis.call('HMGET', meta, 'epoch', 'building', 'building_shards', 'size', 'updated', 'season', 'building_season')
local epoch, building, building_shards, size, updated = state[1], state[2], state[3], tonumber(state[4] or '0'), state[5] or ''
local season, building_season = tonumber(state[6] or '1'), tonumber(state[7] or '1')

local targets, sizes, elsewhere = {}, {}, '0'
if only ~= '' then
  if epoch ~= only and (building ~= only or building_shards ~= shards) then return {'superseded'} end
  targets[1] = only
else
  if epoch then targets[1] = epoch end
  if building and building_shards == shards then targets[#targets + 1] = building end
  if building and building_shards ~= shards then elsewhere = building end
  if #targets == 0 and elsewhere == '0' then return {'missing'} end
end
for _, target in ipairs(targets) do sizes[target] = size end
local seasons, latest = {}, season
if epoch then seasons[epoch] = season end
if building then seasons[building], latest = building_season, math.max(season, building_season) end

local touched, newest, traces, ahead = write_updates(prefix, targets, seasons, sizes, 5, updated, latest)
if newest ~= updated then redis.call('HSET', meta, 'updated', newest) end
local writes, changed = count_writes(prefix, targets, writer), {}
for _, target in ipairs(targets) do
  if touched[target] then changed[#changed + 1] = candidates(meta, prefix, target, size, newest, traces) end
end
return {'ok', writes, elsewhere, building_shards or '0', changed, ahead}
