-- A user's place and neighbours. KEYS: meta.  ARGV: prefix, user, neighbours on each side.
-- Answers false without a ranking, else {epoch, version, lastUpdated, shards, rank, players, places}, of which only the
-- first four for an unknown user, and where the board is spread over shards.
local state = redis.call('HMGET', KEYS[1], 'epoch', 'version', 'updated', 'shards')
if not state[1] then return false end
local age = {state[1], state[2], state[3], state[4] or '1'}
if age[4] ~= '1' then return age end
local prefix, user, around = ARGV[1], ARGV[2], tonumber(ARGV[3])
local packed = redis.call('HGET', prefix .. state[1] .. ':users', user)
if not packed then return age end
local _, hidden, reached = parse_user(packed)
if hidden then return age end
local rank_key = prefix .. state[1] .. ':rank'
local rank = redis.call('ZRANK', rank_key, reached .. ':' .. user)
if not rank then return age end
return {state[1], state[2], state[3], '1', rank + 1, redis.call('ZCARD', rank_key),
  places(prefix, state[1], math.max(0, rank - around), rank + around)}
