-- The first places of a board. KEYS: meta.  ARGV: prefix, limit.  Answers {epoch, version, lastUpdated, places}.
local state = redis.call('HMGET', KEYS[1], 'epoch', 'version', 'updated')
if not state[1] then return false end
return {state[1], state[2], state[3], places(ARGV[1], state[1], 0, tonumber(ARGV[2]) - 1)}
