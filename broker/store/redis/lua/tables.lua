-- Rendered from broker/core and broker/pool by `python -m broker.store.redis.lua_tables`: do not edit.
local SCHEMA = '1'
local VERSION = '2'
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
  recovering = {register = 'open', silence = 'offline', distrust = 'offline', recover = 'recovering'},
  open = {register = 'open', silence = 'offline', distrust = 'offline', recover = 'recovering', cordon = 'cordoned', drain = 'draining', fault = 'quarantined'},
  cordoned = {register = 'cordoned', silence = 'offline', distrust = 'offline', recover = 'recovering', drain = 'draining', uncordon = 'open', fault = 'quarantined'},
  draining = {register = 'draining', silence = 'offline', distrust = 'offline', recover = 'recovering', cordon = 'cordoned', uncordon = 'open', fault = 'quarantined'},
  quarantined = {register = 'quarantined', silence = 'offline', distrust = 'offline', recover = 'recovering', heal = 'open', uncordon = 'open'},
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
local POOL = {
  MAX_LOOP = 200,
  SURVIVED_MS = 60000,
  PROVED_MS = 600000,
  FORGET_MS = 600000,
  UNSERVED_MS = 1500,
  MOST_DOUBLINGS = 4,
  GUESS = 'prefetch',
  WRONG = 2,
  MOST_WRONG = 10,
  GONE = -1,
  RANK_STEP = 4398046511104,
  MEAN_LEASE = 1000,
  SHORTEST = 100,
  LONGEST = 10000,
  TURN_STEP = 2251799813685248,
  ALPHA = 0.2,
  ONE_ARRIVAL = 1000,
  ARRIVALS_TAU_MS = 1800000,
  TRUSTED_ERROR = 700,
  MOST_LEFT = 10000,
  SHARE = 8,
  BEYOND = 2,
  RUN_PREFIX = 12,
  KEPT_TTLS = 2,
  WATCH_STEP_MS = 1000,
  TOO_LARGE = 'more than any slot has beside what is pinned there',
  UNSERVED = "no worker's catalogue has it",
  REFUSAL_PAUSE_S = 30,
  BY_HAND = 'operator',
  DESERTED = 'deserted',
  OLD_BOOTS = 8,
  SHOWN = 10,
  CHECKED = 1000,
  EVENTS_KEPT = 100000,
  REJECTED_KEPT = 1000,
  MAX_ENTRY = 262144,
  ADMIT_ALL = '9007199254740991',
  SILENT_MS = 60000,
  FIRST_MS = 5000,
}
POOL.OWN_DOING = {cancel = true, expire = true, release = true, time_out = true}
POOL.LEARNED_FROM = {expire = true, release = true}
POOL.OCCUPIES_DEVICE = {loading = true, ready = true}
POOL.OCCUPIES_HOST = {failed = true, loading = true, ready = true, unloading = true}
POOL.ORDERABLE = {ready = true}
POOL.FOR_WAITERS = {age_bound = true, waiters = true}
POOL.PROVED = {room = true, useless = true}
POOL.KINDS = {host = true, passing = true, permanent = true, room = true, useless = true}
POOL.WISHES = {
  cordon = 'cordon',
  drain = 'drain',
  uncordon = '',
}
POOL.FAILURE_FIELDS = {
  'error', 'kind', 'fails', 'tries', 'falls', 'failed_at', 'stamp', 'retry_at', 'given_up', 'quarantined'
}
POOL.NEW_RESIDENCY = {
  'state', 'absent', 'gen', '0', 'admit', '9007199254740991', 'use', '0', 'url', '', 'key', '', 'wanted', 'ready',
  'progress', '0', 'used_at', '0', 'started', '0', 'loaded', '0', 'waited', '0', 'mib', '0', 'why', '', 'prefetched',
  '', 'doubts', '0', 'error', '', 'kind', '', 'fails', '0', 'tries', '0', 'falls', '0', 'failed_at', '0', 'stamp', '',
  'retry_at', '0', 'given_up', '0', 'quarantined', ''
}
POOL.SPEC_FIELDS = {
  'name', 'memory_mib', 'lease_limit', 'is_default', 'release_ms', 'load_hint_ms', 'hold_hint_ms', 'keep', 'pinned',
  'weight'
}
local LEASE = {NEEDED = 12} -- arguments; brokers of an earlier version do not send all that follow
LEASE.FIELDS = {
  'id', 'nonce', 'state', 'reason', 'session', 'sh', 'hh', 'model', 'intent', 'holder', 'priority', 'who', 'ttl_ms',
  'estimate_ms', 'expected_ms', 'arrival', 'enq', 'granted', 'deadline', 'ended', 'slot', 'gen', 'claimed', 'op',
  'turn', 'cost', 'single', 'life', 'place', 'named', 'only_warm', 'left', 'kept', 'label'
}
LEASE.TAKEN_OVER = {
  'id', 'nonce', 'session', 'sh', 'hh', 'model', 'intent', 'holder', 'priority', 'who', 'ttl_ms', 'estimate_ms', 'op',
  'single', 'life', 'only_warm', 'label'
}
LEASE.OF_ITS_CLIENT = {'life', 'session', 'sh', 'holder', 'hh'}
LEASE.EVENT_WORDS = {
  'lease', 'id', 'model', 'model', 'slot', 'slot', 'gen', 'gen', 'sh', 'sh', 'intent', 'intent', 'label', 'label'
}
LEASE.LINE_WORDS = {{'session', ''}, {'label', 'label='}}
-- What is asked for, in the arguments that begin at `from`.
function LEASE.ask(args, from)
  return {
    id = args[from + 0],
    nonce = args[from + 1],
    session = args[from + 2],
    sh = args[from + 3],
    hh = args[from + 4],
    model = args[from + 5],
    intent = args[from + 6],
    holder = args[from + 7],
    priority = args[from + 8],
    who = args[from + 9],
    ttl_ms = args[from + 10],
    waiter_ttl_ms = args[from + 11],
    estimate_ms = args[from + 12] or '',
    op = args[from + 13] or '',
    body = args[from + 14] or '',
    max_open = args[from + 15] or '',
    single = args[from + 16] or '',
    life = args[from + 17] or '',
    place = args[from + 18] or '',
    named = args[from + 19] or '',
    only_warm = args[from + 20] or '',
    label = args[from + 21] or '',
  }
end
-- An empty row with room for what a held lease has, so that it does not grow step by step.
function LEASE.room()
  return {
    id = nil, nonce = nil, session = nil, sh = nil, hh = nil, model = nil, intent = nil, holder = nil, priority = nil,
    who = nil, ttl_ms = nil, estimate_ms = nil, op = nil, single = nil, life = nil, only_warm = nil, label = nil,
    state = nil, arrival = nil, enq = nil, granted = nil, deadline = nil, slot = nil, gen = nil, claimed = nil
  }
end
local VIEW = {}
VIEW.MODEL = {
  'name', 'memory_mib', 'lease_limit', 'is_default', 'keep', 'pinned', 'weight', 'release_ms', 'load_hint_ms',
  'hold_hint_ms', 'queued', 'expected_ms', 'estimated', 'off', 'resting', 'arrived_at', 'wrong_guesses', 'left_at',
  'left_slot', 'left_why', 'left_for', 'deserted', 'given_up', 'hold_ms', 'hold_var', 'hold_n', 'load_ms', 'load_var',
  'load_n', 'unload_ms', 'unload_var', 'unload_n'
}
VIEW.SLOT = {
  'state', 'reason', 'worker', 'gen', 'budget_mib', 'total_mib', 'free_mib', 'foreign_mib', 'foreign', 'used_percent',
  'foreign_percent', 'serves', 'priors'
}
VIEW.RESIDENCY = {
  'state', 'gen', 'admit', 'use', 'progress', 'used_at', 'started', 'loaded', 'waited', 'why', 'prefetched', 'error',
  'kind', 'tries', 'falls', 'failed_at', 'retry_at', 'quarantined'
}
VIEW.HELD = {'id', 'model', 'priority', 'state', 'granted', 'deadline', 'expected_ms', 'single'}
local REPORTS = {
  UNSOUND = 'unsound report: ',
  LEAP = 4294967296,
  MOST_SLOTS = 1000,
  TOKEN = 128,
}
REPORTS.LEAPS = {{'epoch', 'epoch'}, {'hw', 'gen'}}
REPORTS.STATES = {absent = true, failed = true, loading = true, ready = true, unloading = true}
REPORTS.FIELDS = {
  {'boot', 'id', 128},
  {'home', 'token', 128},
  {'inc', 'token', 128},
  {'worker', 'text', 1024},
  {'epoch', 'number', 9007199254740991},
  {'hw', 'number', 9007199254740991},
  {'beat', 'number', 9007199254740991},
  {'budget_mib', 'number', 1073741824},
  {'total_mib', 'number', 1073741824},
  {'free_mib', 'number', 1073741824},
  {'foreign_mib', 'number', 1073741824},
  {'foreign', 'text', 16384},
  {'used_percent', 'percent', 128},
  {'foreign_percent', 'percent', 128},
  {'serves', 'names', 65536},
  {'fault', 'text', 16384},
}
REPORTS.MODEL_FIELDS = {
  {'state', 'state', 128},
  {'gen', 'number', 9007199254740991},
  {'url', 'url', 512},
  {'progress', 'number', 100},
  {'mib', 'number', 1073741824},
  {'took_ms', 'number', 86400000},
  {'error', 'text', 16384},
  {'failure', 'token', 128},
  {'stamp', 'token', 128},
  {'unsound', 'text', 16384},
  {'prior_ms', 'number', 21600000},
}
REPORTS.EXPECTED = {
  id = 'must be 1 to %.0f printable characters without a blank',
  token = 'must be at most %.0f printable characters without a blank',
  text = 'must be UTF-8 text of at most %.0f bytes',
  names = 'must be model names with blanks between, at most %.0f bytes',
  url = 'must be an http address of at most %.0f characters',
  number = 'must be a whole number from 0 to %.0f',
  percent = 'must be a whole number from -1 to 100',
  state = 'must be absent, failed, loading, ready or unloading',
}
