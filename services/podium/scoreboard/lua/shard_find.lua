-- Where a user stands by itself. KEYS: meta of the user's shard.  ARGV: prefix, epoch, user.
-- Answers {member, score, username}, {} for a user who is unknown or hidden, false where the shard lacks the epoch.
local prefix, epoch, user = ARGV[1], ARGV[2], ARGV[3]
local state = redis.call('HMGET', KEYS[1], 'epoch', 'building')
if state[1] ~= epoch and state[2] ~= epoch then return false end
local packed = redis.call('HGET', prefix .. epoch .. ':users', user)
if not packed then return {} end
local _, hidden, reached, username = parse_user(packed)
if hidden then return {} end
local member = reached .. ':' .. user
local score = redis.call('ZSCORE', prefix .. epoch .. ':rank', member)
if not score then return {} end
return {member, string.format('%.0f', tonumber(score)), username}
