-- Shared by the scripts of a board. All keys of a board carry its hash tag, so a script touches one slot.
-- The value of a user: "version|hidden|reachedAt in µs, 16 digits|username".

local function parse_user(packed)
  local version, hidden, reached, username = string.match(packed, '^(%d+)|([01])|(%d+)|(.*)$')
  return tonumber(version), hidden == '1', reached, username
end

-- The places first..last (from 0) of a ranking as JSON objects.
local function places(prefix, epoch, first, last)
  local found = redis.call('ZRANGE', prefix .. epoch .. ':rank', first, last, 'WITHSCORES')
  local count = #found / 2
  local out = {}
  -- Slices, because unpack() has a bound.
  for start = 1, count, 500 do
    local ids = {}
    for i = start, math.min(count, start + 499) do
      ids[#ids + 1] = string.sub(found[2 * i - 1], 18)
    end
    local users = redis.call('HMGET', prefix .. epoch .. ':users', unpack(ids))
    for i, id in ipairs(ids) do
      local _, _, _, username = parse_user(users[i])
      local at = start + i - 1
      out[at] = string.format('{"userId":%s,"username":%s,"score":%.0f,"rank":%d}',
        cjson.encode(id), cjson.encode(username), 0 - tonumber(found[2 * at]), first + at)
    end
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
