-- A proxy that has just begun, or has just been reloaded, knows no server until DNS has answered and one has passed a check. The
-- calls of that moment wait, as haproxy.cfg has them do, rather than be told that no server is ready.
local LONGEST_S = 5
local LOOK_MS = 20
local began_s = os.time()

local function await_servers(txn)
  local backend = txn.f:be_name()
  while txn.f:nbsrv(backend) == 0 and os.time() < began_s + LONGEST_S do
    core.msleep(LOOK_MS)
  end
end

core.register_action("await_servers", {"http-req"}, await_servers)
