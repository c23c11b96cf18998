-- Set users to what PostgreSQL says, each only while the ranking still holds what was looked at.
-- KEYS: meta.  ARGV: prefix, epoch, rows as MessagePack: one list of user, value looked at (false: none), member, score
-- (negated points; false: hidden) and new value (false: no such user) in turns.
-- Answers how many were set, or false where the epoch is not the current one.
local prefix, epoch = ARGV[1], ARGV[2]
if redis.call('HGET', KEYS[1], 'epoch') ~= epoch then return false end
local rank_key, users_key = prefix .. epoch .. ':rank', prefix .. epoch .. ':users'
local rows, healed = cmsgpack.unpack(ARGV[3]), 0
for at = 1, #rows, 5 do
  local user, expected, member, score, packed = unpack(rows, at, at + 4)
  local held = redis.call('HGET', users_key, user)
  if held == expected then
    if held then
      local _, _, reached = parse_user(held)
      redis.call('ZREM', rank_key, reached .. ':' .. user)
    end
    if packed then
      redis.call('HSET', users_key, user, packed)
      if score then redis.call('ZADD', rank_key, string.format('%.0f', score), member) end
    else
      redis.call('HDEL', users_key, user)
    end
    healed = healed + 1
  end
end
return healed
