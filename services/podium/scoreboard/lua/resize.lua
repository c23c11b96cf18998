-- Show the top anew where its size was changed in the settings. KEYS: meta, top.  ARGV: prefix, board, size of the top.
local meta, top = KEYS[1], KEYS[2]
local prefix, board, size = ARGV[1], ARGV[2], tonumber(ARGV[3])
local state = redis.call('HMGET', meta, 'epoch', 'version', 'updated', 'rankings')
if not state[1] then return false end
local rankings = places(prefix, state[1], 0, size - 1)
if rankings == state[4] then return false end
local version = tonumber(state[2]) + 1
local new = snapshot(board, state[1], version, rankings, state[3], {})
redis.call('HSET', meta, 'version', version, 'rankings', rankings)
redis.call('SET', top, new)
return new
