-- How many of a shard come before a place of the whole board, and who stands next to it.
-- KEYS: meta of the shard.  ARGV: prefix, epoch, member, score, neighbours on each side.
-- Answers {places before, players, entries before and from the place on}, or false where the shard lacks the epoch.
local prefix, epoch, member, score, around = ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
local state = redis.call('HMGET', KEYS[1], 'epoch', 'building')
if state[1] ~= epoch and state[2] ~= epoch then return false end
local rank_key = prefix .. epoch .. ':rank'

-- Lua's own comparison of strings follows the locale of the server; the set's does not.
local function less(one, other)
  for at = 1, math.min(#one, #other) do
    local a, b = string.byte(one, at), string.byte(other, at)
    if a ~= b then return a < b end
  end
  return #one < #other
end

-- Among equal scores the set is ordered by member: the first that is not less is found by halving.
local low, high = redis.call('ZCOUNT', rank_key, '-inf', '(' .. score), redis.call('ZCOUNT', rank_key, '-inf', score)
while low < high do
  local middle = math.floor((low + high) / 2)
  if less(redis.call('ZRANGE', rank_key, middle, middle)[1], member) then low = middle + 1 else high = middle end
end
return {low, redis.call('ZCARD', rank_key), entries(prefix, epoch, math.max(0, low - around), low + around)}
