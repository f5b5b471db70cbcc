-- Sends the tokens of a file in turn; with "once" each of them a single time. Prints one line of JSON.
-- With "counted" it counts the responses by status.
local requests, position, once, threads = {}, 0, false, {}
statuses = {} -- global, because `done` reads it from the thread

function setup(thread)
  threads[#threads + 1] = thread
end

function init(args)
  local path, file = args[1], args[3]
  once = args[4] == "once"
  if args[2] == "counted" then
    response = function(status)
      local name = tostring(status)
      statuses[name] = (statuses[name] or 0) + 1
    end
  end
  if file then
    for token in io.lines(file) do
      requests[#requests + 1] = wrk.format("GET", path, { ["Authorization"] = "Bearer " .. token })
    end
  else
    requests[1] = wrk.format("GET", path)
  end
end

function request()
  position = position + 1
  if position > #requests then
    if once then
      wrk.thread:stop()
    end
    position = 1
  end
  return requests[position]
end

function done(summary, latency)
  local counts = {}
  for _, thread in ipairs(threads) do
    for name, count in pairs(thread:get("statuses")) do
      counts[#counts + 1] = string.format('"%s": %d', name, count)
    end
  end
  io.write(string.format(
    '\n{"requests": %d, "duration": %d, "refused": %d, "failed": %d, "p50": %d, "p99": %d, "max": %d, "statuses": {%s}}\n',
    summary.requests, summary.duration, summary.errors.status,
    summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout,
    latency:percentile(50), latency:percentile(99), latency.max, table.concat(counts, ", ")))
end
