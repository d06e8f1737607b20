-- SPDX-License-Identifier: Apache-2.0
-- A server that refuses every call at once seems to be the least busy of all, and its readiness says nothing of it. haproxy.cfg
-- counts refusals and answers, and hands a server without answers over to here: it rests for a while, then gets calls again, and
-- rests again unless it answers one. No more servers rest than go on.
local REST_S = 2
local LOOK_MS = 100

local resting = {}  -- by server's name: {server = itself, until_s = when it gets calls again}

local function is(status, server)
  return string.sub(server:get_stats()["status"] or "", 1, #status) == status
end

local function rest(txn)
  local name = txn.f:srv_name()
  if resting[name] then return end  -- calls that were under way
  local servers = core.backends[txn.f:be_name()].servers
  local server = servers[name]
  if not is("UP", server) then return end  -- an operator's drain, or it has gone
  local up, rest_already = 0, 0
  for other, one in pairs(servers) do
    if resting[other] then
      rest_already = rest_already + 1
    elseif is("UP", one) then
      up = up + 1
    end
  end
  if up - 1 < rest_already + 1 then return end
  server:set_drain()
  resting[name] = {server = server, until_s = core.now().sec + REST_S}
  core.log(core.warning, "server " .. name .. " refuses every call: it rests for " .. REST_S .. " s")
end

local function wake()
  while true do
    core.msleep(LOOK_MS)
    local now_s = core.now().sec
    for name, one in pairs(resting) do
      if now_s >= one.until_s then
        resting[name] = nil
        if not is("MAINT", one.server) then one.server:set_ready() end  -- an operator's wish stays
      end
    end
  end
end

core.register_action("rest", {"http-res"}, rest)
core.register_task(wake)
