-- The first places of a board. KEYS: meta.  ARGV: prefix, limit.
-- Answers {epoch, version, lastUpdated, shards, places, or '' where they are spread over shards}.
local state = redis.call('HMGET', KEYS[1], 'epoch', 'version', 'updated', 'shards')
if not state[1] then return false end
local shards = state[4] or '1'
return {state[1], state[2], state[3], shards, shards == '1' and places(ARGV[1], state[1], 0, tonumber(ARGV[2]) - 1) or ''}
