-- Sends the tokens of a file in turn; with "once" each of them a single time. Prints one line of JSON.
local requests, position, once = {}, 0, false

function init(args)
  local path, file = args[1], args[2]
  once = args[3] == "once"
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
  io.write(string.format(
    '\n{"requests": %d, "duration": %d, "refused": %d, "failed": %d, "p50": %d, "p99": %d, "max": %d}\n',
    summary.requests, summary.duration, summary.errors.status,
    summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout,
    latency:percentile(50), latency:percentile(99), latency.max))
end
