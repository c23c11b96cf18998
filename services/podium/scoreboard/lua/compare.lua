-- Which users of some rows differ from the ranking. KEYS: meta (of the board, or of one of its shards).
-- ARGV: prefix, epoch, rows as load.lua has them.  Answers {the users, how many of all have a value, how many of all have a place}, or false
-- where the epoch is not the current one.
local prefix, epoch = ARGV[1], ARGV[2]
if redis.call('HGET', KEYS[1], 'epoch') ~= epoch then return false end
local rows, ids, members, different = cmsgpack.unpack(ARGV[3]), {}, {}, {}
for at = 1, #rows, 3 do
  members[#members + 1] = rows[at]
  ids[#ids + 1] = user_of(rows[at])
end
local values = many('HMGET', prefix .. epoch .. ':users', ids)
local scores = many('ZMSCORE', prefix .. epoch .. ':rank', members)
local known, shown = 0, 0
for at, id in ipairs(ids) do
  local value, held, score = values[at], scores[at] and tonumber(scores[at]), rows[3 * at - 1]
  if value ~= rows[3 * at] or held ~= score then
    different[#different + 1] = id
    if value then
      local _, _, reached = parse_user(value)
      held = redis.call('ZSCORE', prefix .. epoch .. ':rank', reached .. ':' .. id)
    else
      held = false
    end
  end
  if value then known = known + 1 end
  if held then shown = shown + 1 end
end
return {different, known, shown}
