-- Rendered from broker/core by `python -m broker.store.lua_library`: do not edit.
local SCHEMA = '1'
local VERSION = '1'
local HASH = '@hash@'
local PRIORITIES = {'interactive', 'normal', 'background', 'batch'}
local RANK = {
  interactive = 0,
  normal = 1,
  background = 2,
  batch = 3,
}
local REASON_OF = {
  release = 'released',
  expire = 'expired',
  cancel = 'cancelled',
  time_out = 'timed_out',
  reject = 'rejected',
  revoke = 'revoked',
  lose = 'lost',
}
local TRANSITIONS = {
  queued = {grant = 'active', cancel = 'ended', time_out = 'ended', reject = 'ended', lose = 'ended'},
  active = {renew = 'active', preempt = 'ending', release = 'ended', expire = 'ended', revoke = 'ended', lose = 'ended'},
  ending = {renew = 'ending', release = 'ended', expire = 'ended', revoke = 'ended', lose = 'ended'},
  ended = {},
}
local SLOT_TRANSITIONS = {
  offline = {register = 'open'},
  recovering = {register = 'open', silence = 'offline', recover = 'recovering'},
  open = {register = 'open', silence = 'offline', recover = 'recovering', cordon = 'cordoned', drain = 'draining', fault = 'quarantined'},
  cordoned = {register = 'cordoned', silence = 'offline', recover = 'recovering', drain = 'draining', uncordon = 'open', fault = 'quarantined'},
  draining = {register = 'draining', silence = 'offline', recover = 'recovering', cordon = 'cordoned', uncordon = 'open', fault = 'quarantined'},
  quarantined = {register = 'quarantined', silence = 'offline', recover = 'recovering', heal = 'open', uncordon = 'open'},
}
local RESIDENCY_TRANSITIONS = {
  absent = {order = 'loading'},
  loading = {become_ready = 'ready', fail = 'unloading', withdraw = 'unloading', vanish = 'absent'},
  ready = {withdraw = 'unloading', die = 'unloading', vanish = 'absent'},
  unloading = {vanish = 'absent'},
}
local RESIDENCY_KIND = {
  order = 'loading',
  become_ready = 'ready',
  fail = 'load_failed',
  withdraw = 'unloading',
  die = 'unloading',
  vanish = 'absent',
}
local FOR_WAITERS = {
  age_bound = true,
  waiters = true,
}
local DESERTED = 'deserted'
