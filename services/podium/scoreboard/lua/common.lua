-- Shared by the scripts of a ranking. All keys of one shard of a board carry its hash tag, so a script touches one slot.
-- The value of a user: "version|hidden|reachedAt in µs, 16 digits|username". What is of no such form no script wrote: it
-- counts as older than everything and has no place, until the drift check puts it right.

local function parse_user(packed)
  local version, hidden, reached, username = string.match(packed, '^(%d+)|([01])|(%d+)|(.*)$')
  if not version then return -1, false, '', '' end
  return tonumber(version), hidden == '1', reached, username
end

-- The season of a version: above its lowest 32 bits stands the number of seasons before it.
local function season_of(version)
  return math.floor(version / 4294967296) + 1
end

-- The user of a member "reachedAt, 16 digits:user".
local function user_of(member)
  return string.sub(member, 18)
end

-- Call a command on `values` in slices, because unpack() has a bound; `size` must be a multiple of a group's length.
local function in_slices(command, key, values, size)
  for from = 1, #values, size do
    redis.call(command, key, unpack(values, from, math.min(#values, from + size - 1)))
  end
end

-- HMGET or ZMSCORE of any number of names, as one list.
local function many(command, key, names)
  local out = {}
  for from = 1, #names, 1000 do
    local part = redis.call(command, key, unpack(names, from, math.min(#names, from + 999)))
    for at, value in ipairs(part) do out[from + at - 1] = value end
  end
  return out
end

-- The places first..last (from 0) of a ranking as a list of member, score (negated points) and username.
local function entries(prefix, epoch, first, last)
  local found = redis.call('ZRANGE', prefix .. epoch .. ':rank', first, last, 'WITHSCORES')
  local ids = {}
  for at = 1, #found, 2 do ids[#ids + 1] = user_of(found[at]) end
  local users, out = many('HMGET', prefix .. epoch .. ':users', ids), {}
  for at = 1, #ids do
    if users[at] then  -- else nobody has this place; the drift check takes it away
      local _, _, _, username = parse_user(users[at])
      local next = #out
      out[next + 1], out[next + 2], out[next + 3] = found[2 * at - 1], string.format('%.0f', tonumber(found[2 * at])), username
    end
  end
  return out
end

-- The places first..last (from 0) of a ranking as JSON objects.
local function places(prefix, epoch, first, last)
  local found, out = entries(prefix, epoch, first, last), {}
  for at = 1, #found / 3 do
    out[at] = string.format('{"userId":%s,"username":%s,"score":%.0f,"rank":%d}', cjson.encode(user_of(found[3 * at - 2])),
      cjson.encode(found[3 * at]), 0 - tonumber(found[3 * at - 1]), first + at)
  end
  return '[' .. table.concat(out, ',') .. ']'
end

-- The snapshot of a top as JSON; numbers are written by hand because cjson rounds large ones.
local function snapshot(board, epoch, version, rankings, updated, traces)
  local quoted = {}
  for i, trace in ipairs(traces) do
    quoted[i] = cjson.encode(trace)
  end
  return string.format('{"board":%s,"epoch":%s,"version":%d,"rankings":', cjson.encode(board), epoch, version)
    .. rankings .. ',"lastUpdated":' .. cjson.encode(updated) .. ',"traces":[' .. table.concat(quoted, ',') .. ']}'
end

-- Write one user's absolute state to an epoch unless a newer one is there.
-- Answers whether it was written, and whether the first `size` places changed by it.
local function write_user(prefix, epoch, size, user, version, score, reached, hidden, username)
  local rank_key, users_key = prefix .. epoch .. ':rank', prefix .. epoch .. ':users'
  local packed = redis.call('HGET', users_key, user)
  local old_version, was_hidden, old_reached
  if packed then old_version, was_hidden, old_reached = parse_user(packed) end
  if packed and old_version >= version then return false, false end
  local member, mattered = reached .. ':' .. user, false
  if packed and not was_hidden then
    local old_member = old_reached .. ':' .. user
    mattered = size > 0 and (redis.call('ZRANK', rank_key, old_member) or size) < size
    if old_member ~= member or hidden == '1' then redis.call('ZREM', rank_key, old_member) end
  end
  if hidden == '0' then
    redis.call('ZADD', rank_key, string.format('%.0f', 0 - tonumber(score)), member)
    mattered = mattered or (size > 0 and redis.call('ZRANK', rank_key, member) < size)
  end
  redis.call('HSET', users_key, user, string.format('%.0f', version) .. '|' .. hidden .. '|' .. reached .. '|' .. username)
  return true, mattered
end

-- Write updates (8 values each, from ARGV[first] on) to those of the target epochs that hold their season; `sizes` gives
-- the places of each that matter, `latest` the newest season that any epoch holds, here or elsewhere.
-- Answers which targets' first places changed, the newest time, at most 32 traceparents of what changed them, and
-- whether an update was ahead of all seasons: that one counts for nothing until a rebuild.
local function write_updates(prefix, targets, seasons, sizes, first, newest, latest)
  local touched, traces, ahead = {}, {}, 0
  for at = first, #ARGV, 8 do
    local version, updated_at, trace = tonumber(ARGV[at + 1]), ARGV[at + 6], ARGV[at + 7]
    local season = season_of(version)
    if season > latest then ahead = 1 end
    for _, target in ipairs(targets) do
      if seasons[target] == season then
        local written, mattered = write_user(prefix, target, sizes[target] or 0, ARGV[at], version,
          ARGV[at + 2], ARGV[at + 3], ARGV[at + 4], ARGV[at + 5])
        if written and updated_at > newest then newest = updated_at end
        if mattered then
          touched[target] = true
          if trace ~= '' and #traces < 32 and traces[#traces] ~= trace then traces[#traces + 1] = trace end
        end
      end
    end
  end
  return touched, newest, traces, ahead
end

-- Count one write of a writer in each target; answers {epoch, writes, …}.
local function count_writes(prefix, targets, writer)
  local writes = {}
  for _, target in ipairs(targets) do
    writes[#writes + 1] = target
    writes[#writes + 1] = redis.call('HINCRBY', prefix .. target .. ':writers', writer, 1)
  end
  return writes
end

-- Free an epoch's keys; UNLINK does it in a thread of its own, so a large board stops nobody.
local function drop(prefix, epoch)
  local keys = {}
  for _, name in ipairs({'rank', 'users', 'writers', 'offers', 'offered'}) do
    keys[#keys + 1] = prefix .. epoch .. ':' .. name
  end
  redis.call('UNLINK', unpack(keys))
end

-- Show the top anew where its places differ from those shown: a new version. Answers version and snapshot or ''.
local function show(meta, top, prefix, board, size, epoch, version, shown, updated, traces)
  local rankings = places(prefix, epoch, 0, size - 1)
  if rankings == shown then return version, '' end
  version = version + 1
  local new = snapshot(board, epoch, version, rankings, updated, traces)
  redis.call('HSET', meta, 'version', version, 'rankings', rankings)
  redis.call('SET', top, new)
  return version, new
end

-- The first places of a shard, to be offered to the board's head: a number that grows with each change, and the places.
local function candidates(meta, prefix, epoch, size, updated, traces)
  local version = redis.call('HINCRBY', meta, 'version:' .. epoch, 1)
  return {epoch, version, cmsgpack.pack({updated, traces, entries(prefix, epoch, 0, size - 1)})}
end
