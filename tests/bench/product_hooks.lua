-- Unique 300-byte Particle events for wrk, the same as tests/support/numbered.py makes. Argument: the run's name.
local number = 0
local run, head, day

function init(arguments)
  run = arguments[1]
  day = os.date("!%Y-%m-%d")
  wrk.headers["Content-Type"] = "application/json"
end

function request()
  local seconds = math.floor(number / 10000)
  local at = string.format("%sT%02d:%02d:%02d.%03dZ", day, math.floor(seconds / 3600) % 24,
    math.floor(seconds / 60) % 60, seconds % 60, math.floor(number / 10) % 1000)
  local start = string.format('{"event":"temperature","data":"{\\"run\\":\\"%s\\",\\"n\\":\\"%010d\\",\\"t\\":21.5,\\"pad\\":\\"',
    run, number)
  local rest = string.format('\\"}","coreid":"e00fce68%016x","published_at":"%s"}', number % 1000, at)
  number = number + 1
  return wrk.format("POST", nil, nil, start .. string.rep("x", 300 - #start - #rest) .. rest)
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format('{"requests":%d,"microseconds":%d,"refused":%d,"cut":%d,"p99":%d}\n', summary.requests,
    summary.duration, errors.status, errors.connect + errors.read + errors.write + errors.timeout, latency:percentile(99)))
end
