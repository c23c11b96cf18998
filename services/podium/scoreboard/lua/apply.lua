-- Apply absolute scores to the current epoch and, while one is being built, to that as well (a board of one shard).
-- KEYS: meta, top.  ARGV: prefix, board, size of the top, writer, epoch ('' all, else only this one),
-- then for each update: user, version, score, reachedAt (16 digits), hidden (0/1), username, updatedAt, traceparent or ''.
-- Answers {'ok', epoch or '0', version, snapshot or '', {epoch, writes of this writer, …}, epoch that is being built with
-- other shards or '0', its shards, 1 where an update is of a newer season than any epoch}; {'missing'} where there is no ranking to write to; {'moved'} where the ranking
-- has other shards by now; {'superseded'} where the one epoch is there no more.
local meta, top = KEYS[1], KEYS[2]
local prefix, board, size, writer, only = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4], ARGV[5]
local state = redis.call('HMGET', meta, 'epoch', 'version', 'building', 'updated', 'rankings', 'shards', 'building_shards',
  'season', 'building_season')
local epoch, version, building, updated, shown = state[1], tonumber(state[2] or '0'), state[3], state[4] or '', state[5]
local building_shards = state[7] or '1'
local season, building_season = tonumber(state[8] or '1'), tonumber(state[9] or '1')

local targets, elsewhere = {}, '0'
if only ~= '' then
  if building ~= only and epoch ~= only then return {'superseded'} end
  targets[1] = only
else
  if epoch and (state[6] or '1') ~= '1' then return {'moved'} end
  if epoch then targets[1] = epoch end
  if building and building_shards == '1' then targets[#targets + 1] = building end
  if building and building_shards ~= '1' then elsewhere = building end
  if #targets == 0 and elsewhere == '0' then return {'missing'} end
end

local seasons, sizes, latest = {}, {}, season
if epoch then seasons[epoch], sizes[epoch] = season, size end
if building then seasons[building], latest = building_season, math.max(season, building_season) end
local touched, newest, traces, ahead = write_updates(prefix, targets, seasons, sizes, 6, updated, latest)
if newest ~= updated then redis.call('HSET', meta, 'updated', newest) end
local writes, changed = count_writes(prefix, targets, writer), ''
if epoch and touched[epoch] then
  version, changed = show(meta, top, prefix, board, size, epoch, version, shown, newest, traces)
end
return {'ok', epoch or '0', version, changed, writes, elsewhere, building_shards, ahead}
