-- Show the top anew where its size or its places were changed other than by updates.
-- KEYS: meta, top.  ARGV: prefix, board, size of the top.  Answers the snapshot, or false where nothing changed.
local state = redis.call('HMGET', KEYS[1], 'epoch', 'version', 'updated', 'rankings')
if not state[1] then return false end
local _, new = show(KEYS[1], KEYS[2], ARGV[1], ARGV[2], tonumber(ARGV[3]), state[1], tonumber(state[2]), state[4], state[3], {})
return new ~= '' and new
