-- Product hooks for wrk, byte for byte as product_hooks.py makes them. Arguments: the run, seconds since 1970 it begins.
local senders, devices = 8, 1000
local number = 0
local heads = {}
local run, started, stamp, stamped

function init(arguments)
  run, started = arguments[1], tonumber(arguments[2])
  for sender = 0, senders - 1 do
    heads[sender] = "POST " .. wrk.path .. " HTTP/1.1\r\n"
      .. "User-Agent: ParticleBot/1.1 (https://docs.particle.io/webhooks)\r\n"
      .. "X-Hook-Secret: product-" .. sender .. "-5bd2ce81a79f6c03\r\n"
      .. "accept: application/json\r\n"
      .. "content-type: application/json\r\n"
      .. "host: " .. wrk.host .. ":" .. wrk.port .. "\r\n"
      .. "content-length: "
  end
end

function request()
  local second = math.floor(number / 10000)
  if stamped ~= second then
    stamped, stamp = second, os.date("!%Y-%m-%dT%H:%M:%S.", started + second)
  end
  local device = number % devices
  local body = string.format('{"event":"temperature","data":"{\\"run\\":\\"%s\\",\\"seq\\":%d,\\"t\\":21.5,\\"rh\\":48,'
    .. '\\"bat\\":3.71,\\"rssi\\":-67}","published_at":"%s%03dZ","coreid":"e00fce68%016x","userid":"5bd2ce81%016x",'
    .. '"fw_version":1,"public":"false"}',
    run, math.floor(number / devices), stamp, math.floor(number / 10) % 1000, device, math.floor(device / senders))
  local head = heads[number % senders]
  number = number + 1
  return head .. #body .. "\r\n\r\n" .. body
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format('{"requests":%d,"microseconds":%d,"refused":%d,"cut":%d}\n', summary.requests,
    summary.duration, errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
