package redisstore

import "github.com/redis/go-redis/v9"

// Scripts run atomically: no other command runs in the meantime. Their effects reach the append-only file and replicas as one
// transaction (Redis documentation, "Scripting with Lua"). All keys of one call have the same hash slot.

// scriptFunctions are used by the scripts that read and write. expiry returns milliseconds since 1970, -1 without an expiry and -2 without
// the key. digest changes with the value and its expiry.
//
// PEXPIRETIME exists since Redis 7.0. Before, PTTL is relative to a clock that goes on within a script. So expiry repeats it until
// the clock shows the same millisecond before and after it.
const scriptFunctions = `
local function now()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end
local function expiry(key)
  local at = redis.pcall('PEXPIRETIME', key)
  if type(at) == 'number' then return at end
  local before
  repeat
    before = now()
    at = redis.call('PTTL', key)
  until before == now()
  if at >= 0 then at = before + at end
  return at
end
local function digest(key)
  local dump = redis.call('DUMP', key)
  if not dump then return 'missing' end
  return redis.sha1hex(dump) .. expiry(key)
end
`

var (
	readScript  = redis.NewScript(readScriptText)  //nolint:gochecknoglobals // constant
	writeScript = redis.NewScript(writeScriptText) //nolint:gochecknoglobals // constant
	partsScript = redis.NewScript(partsScriptText) //nolint:gochecknoglobals // constant
)

const (
	withDigest = "digest"  // the argument of the script that reads
	missing    = "missing" // the digest of a missing key
)

// readScriptText returns the type of the key, its expiry, its elements and, if requested, its digest. A missing key is an empty list. Of
// a type that can't be moved, it returns no elements.
const readScriptText = scriptFunctions + `
local key = KEYS[1]
local kind = redis.call('TYPE', key).ok
local at = expiry(key)
if kind == 'none' or at == -2 then return {} end
local value
if kind == 'string' then value = redis.call('GET', key)
elseif kind == 'hash' then value = redis.call('HGETALL', key)
elseif kind == 'list' then value = redis.call('LRANGE', key, 0, -1)
elseif kind == 'set' then value = redis.call('SMEMBERS', key)
elseif kind == 'zset' then value = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
else return {kind, at} end
if ARGV[1] == 'digest' then return {kind, at, value, digest(key)} end
return {kind, at, value}
`

// Results of the script that writes, besides 1 for a write that was applied and 2 for one whose version is too old.
const (
	resultFenced  = 0
	resultChanged = 3
)

// writeScriptText checks the fence, the digest and the version, records the mark and replaces the value. A server whose memory is full
// refuses the first write, so it refuses all.
//
// KEYS: the key, the fence, the marks, the versions.
//
// ARGV begins with the epoch. Mark, version and digest follow, where an empty string disables a part. Then come PX or PXAT and
// milliseconds, or two empty strings without an expiry. The type, or none to delete, and the elements are last.
const writeScriptText = scriptFunctions + `
local key, fence, marks, versions = unpack(KEYS)
local epoch, mark, version, unchanged, expire, ms, kind = unpack(ARGV, 1, 7)
if (redis.call('GET', fence) or '0') ~= epoch then return 0 end
if unchanged ~= '' and digest(key) ~= unchanged then return 3 end
if version ~= '' then
  local known = redis.call('HGET', versions, key)
  if known and tonumber(known) >= tonumber(version) then return 2 end
  redis.call('HSET', versions, key, version)
end
if mark ~= '' then
  local t = redis.call('TIME')
  redis.call('ZADD', marks, t[1] * 1000000 + t[2], mark)
end
if kind == 'string' then
  redis.call('SET', key, ARGV[8])
else
  redis.call('DEL', key)
  local command = ({hash = 'HSET', list = 'RPUSH', set = 'SADD', zset = 'ZADD'})[kind]
  for first = 8, #ARGV, 1000 do redis.call(command, key, unpack(ARGV, first, math.min(first + 999, #ARGV))) end -- a deletion has none
end
if expire == 'PX' then redis.call('PEXPIRE', key, ms) end
if expire == 'PXAT' then redis.call('PEXPIREAT', key, ms) end
return 1
`

// Operations of the script for parts.
const (
	opFence = "fence" // raises each fence that is lower than the epoch, and returns the lowest
	opCount = "count" // returns the position, from 1, the number of marks and the oldest time of each part that has marks
	opClean = "clean" // removes marks and versions
)

// partsScriptText works on the bookkeeping of many parts, because a command for each of 16,384 hash slots would take a second. It has no
// KEYS: they must have one hash slot, while a script may use all slots of its server. If a slot is on another server, it fails.
//
// ARGV: the operation, the epoch, the prefix of the names, and the tag of each part.
const partsScriptText = `
local op, epoch, prefix = unpack(ARGV, 1, 3)
local result = {}
local lowest
for i = 4, #ARGV do
  local name = prefix .. ARGV[i]
  if op == 'fence' then
    local known = tonumber(redis.call('GET', name .. 'fence') or '0')
    if known < tonumber(epoch) then
      known = tonumber(epoch)
      redis.call('SET', name .. 'fence', epoch)
    end
    if not lowest or known < lowest then lowest = known end
  elseif op == 'count' then
    local count = redis.call('ZCARD', name .. 'marks')
    if count > 0 then
      result[#result + 1] = i - 3
      result[#result + 1] = count
      result[#result + 1] = tonumber(redis.call('ZRANGE', name .. 'marks', 0, 0, 'WITHSCORES')[2])
    end
  else
    redis.call('UNLINK', name .. 'marks')
    redis.call('UNLINK', name .. 'versions')
  end -- of the operation
end
if lowest then return {lowest} end
return result
`
