-- One step through the ranking, to find members that are not their user's present one.
-- KEYS: meta.  ARGV: prefix, epoch, cursor, rows of the step.
-- Answers {next cursor, strays removed}, or false where the epoch is not the current one. A stray belongs to
-- nobody, so it is removed at once.
local prefix, epoch, cursor, rows = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
if redis.call('HGET', KEYS[1], 'epoch') ~= epoch then return false end
local rank_key, users_key = prefix .. epoch .. ':rank', prefix .. epoch .. ':users'
local found = redis.call('ZSCAN', rank_key, cursor, 'COUNT', rows)
local members, ids, strays = {}, {}, {}
for at = 1, #found[2], 2 do
  members[#members + 1] = found[2][at]
  ids[#ids + 1] = user_of(found[2][at])
end
for at, packed in ipairs(many('HMGET', users_key, ids)) do
  local hidden, reached, _ = true, nil, nil
  if packed then _, hidden, reached = parse_user(packed) end
  if hidden or reached .. ':' .. ids[at] ~= members[at] then strays[#strays + 1] = members[at] end
end
in_slices('ZREM', rank_key, strays, 1000)
return {found[1], #strays}
