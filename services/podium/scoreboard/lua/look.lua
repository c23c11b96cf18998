-- What the ranking holds of some users. KEYS: meta.  ARGV: prefix, epoch, users.
-- Answers value and score of each user's member in turns, false where there is none; false where the epoch is not current.
local prefix, epoch = ARGV[1], ARGV[2]
if redis.call('HGET', KEYS[1], 'epoch') ~= epoch then return false end
local out = {}
for at = 3, #ARGV do
  local packed, score = redis.call('HGET', prefix .. epoch .. ':users', ARGV[at]), false
  if packed then
    local _, _, reached = parse_user(packed)
    score = redis.call('ZSCORE', prefix .. epoch .. ':rank', reached .. ':' .. ARGV[at])
  end
  out[#out + 1], out[#out + 2] = packed, score and string.format('%.0f', tonumber(score))
end
return out
