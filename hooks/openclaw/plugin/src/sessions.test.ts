import { beforeEach, describe, expect, it } from "vitest";

import { type Effect, MAX_SESSIONS, type Rules, type SessionEvent, Sessions, SILENT_RUN_S, type Trigger } from "./sessions.js";

const RULES: Rules = { ttlS: 120, activeS: 900, priority: "normal", cron: "ride", heartbeat: "ride" };
const S = "agent:main:main";
const CHILD = "agent:main:subagent:1";

let sessions: Sessions;
let nowS = 0;

beforeEach(() => {
  sessions = new Sessions(RULES);
  nowS = 1000;
});

const take = (event: SessionEvent): Effect[] => sessions.take(event, nowS);
const message = (session = S, model = "big") => take({ type: "messageReceived", session, model });
const run = (trigger: Trigger = "user", session = S, model = "big", id = "r1") =>
  take({ type: "runStarted", session, run: id, model, trigger });
const call = (session = S, model = "big", id = "r1", span?: string) =>
  take({ type: "callStarted", session, run: id, call: `${id}:1`, model, trigger: "user", span });
const end = (aborted = false, session = S, id = "r1") => take({ type: "runEnded", session, run: id, aborted });
const warm = (model = "big", session = S, more: object = {}) => ({
  type: "warm",
  session,
  model,
  ttlS: 120,
  priority: "normal",
  ...more,
});
const released = (model = "big", session = S) => ({ type: "release", session, model });

describe("a conversation", () => {
  it("warms its model when a message comes, once", () => {
    expect(message()).toEqual([warm()]);
    expect(message()).toEqual([]);
    expect(run()).toEqual([]);
  });

  it("goes from warm to running to in use and back to warm", () => {
    expect(sessions.phase(S, nowS)).toBe("idle");
    message();
    expect(sessions.phase(S, nowS)).toBe("warm");
    run();
    expect(sessions.phase(S, nowS)).toBe("running");
    call();
    expect(sessions.phase(S, nowS)).toBe("in_use");
    take({ type: "callEnded", session: S, run: "r1", call: "r1:1" });
    expect(sessions.phase(S, nowS)).toBe("running");
    end();
    expect(sessions.phase(S, nowS)).toBe("warm");
  });

  it("is in progress while its person types commands, and is not begun by one", () => {
    expect(take({ type: "seen", session: S })).toEqual([]);
    message();
    nowS += 800;
    expect(take({ type: "seen", session: S })).toEqual([warm()]);
    nowS += 800;
    expect(take({ type: "tick" })).toEqual([warm()]);
    nowS += 200;
    expect([take({ type: "seen", session: S }), take({ type: "tick" })]).toEqual([[], []]);
  });

  it("that only cron has begun is background, with the sub-agents it spawns", () => {
    run("cron");
    expect(sessions.isBackground(S)).toBe(true);
    take({ type: "spawned", session: CHILD, parent: S, model: "big" });
    run("user", CHILD, "big", "r2");
    expect(sessions.isBackground(CHILD)).toBe(true);
    message();
    run("user", S, "big", "r3");
    expect([sessions.isBackground(S), sessions.isBackground("unknown")]).toEqual([false, false]);
  });

  it("registers the span of each call", () => {
    const effects = call(S, "big", "r1", "00f067aa0ba902b7");
    expect(effects).toEqual([{ type: "span", session: S, model: "big", span: "00f067aa0ba902b7" }, warm()]);
  });

  it("is prolonged while somebody talks and lapses afterwards", () => {
    message();
    nowS += 40;
    expect(take({ type: "tick" })).toEqual([warm()]);
    nowS += 900;
    expect(take({ type: "tick" })).toEqual([]);
    nowS += 200;
    take({ type: "tick" });
    expect(sessions.size).toBe(0);
  });

  it("is prolonged through a run of any length, but not for a run that shows no sign of life", () => {
    run();
    nowS += 1000;
    expect(take({ type: "tick" })).toEqual([warm()]);
    nowS += SILENT_RUN_S;
    expect(take({ type: "tick" })).toEqual([]);
  });

  it("hears twice that a run has ended, and minds it once", () => {
    run();
    nowS += 60;
    expect(end()).toEqual([warm()]);
    expect(end(true)).toEqual([]);
  });

  it("gives its model back when a person stops the run", () => {
    run();
    expect(end(true)).toEqual([released()]);
    expect(sessions.phase(S, nowS)).toBe("idle");
  });

  it("keeps its model when one of two runs is stopped", () => {
    run();
    run("user", S, "big", "r2");
    expect(end(true)).toEqual([]);
  });

  it("changes models: the old one is let go of, the new one warmed", () => {
    message();
    expect(take({ type: "modelChanged", session: S, model: "small" })).toEqual([released(), warm("small")]);
    expect(take({ type: "modelChanged", session: S, model: undefined })).toEqual([released("small")]);
  });

  it("ends and gives back all it has", () => {
    message();
    take({ type: "armed", session: S, model: "deep", forS: 1200 });
    expect(take({ type: "ended", session: S })).toEqual([released(), released("deep")]);
    expect(take({ type: "ended", session: S })).toEqual([]);
  });

  it("keeps an armed model through a change of models, until its time is over", () => {
    const armed = { type: "armed", session: S, model: "deep", forS: 1200 } as const;
    expect(take(armed)).toEqual([warm("deep", S, { ttlS: 1200 })]);
    take({ type: "modelChanged", session: S, model: "deep" });
    expect(take({ type: "modelChanged", session: S, model: "big" })).toEqual([warm()]);
    nowS += 1201;
    take({ type: "tick" });
    expect(take({ type: "ended", session: S })).not.toContainEqual(released("deep"));
  });

  it("rides along when its history is compacted", () => {
    const compaction = { type: "callStarted", session: S, run: "c", call: "c:1", model: "big", trigger: undefined } as const;
    expect(take({ ...compaction, span: "a".repeat(16) })).toMatchObject([{ type: "span" }]);
    message();
    nowS += 60;
    expect(take({ ...compaction, span: undefined })).toEqual([warm()]);
  });
});

describe("heartbeats and cron jobs", () => {
  it.each(["heartbeat", "cron"] as const)("%s rides what is warm and never makes it so", (trigger) => {
    expect(run(trigger)).toEqual([]);
    expect(call()).toEqual([]);
    expect(take({ type: "tick" })).toEqual([]);
    expect(end()).toEqual([]);
    expect(sessions.size).toBe(0);
  });

  it("may load where that is wanted, in the class background, for as long as they run", () => {
    sessions = new Sessions({ ...RULES, cron: "load" });
    expect(run("cron")).toEqual([warm("big", S, { priority: "background" })]);
    nowS += 60;
    expect(take({ type: "tick" })).toEqual([warm("big", S, { priority: "background" })]);
    expect(end()).toEqual([released()]);
  });

  it("do not make a conversation last longer", () => {
    message();
    nowS += 899;
    run("heartbeat");
    end();
    nowS += 2;
    expect(take({ type: "tick" })).toEqual([]);
  });

  it("leave a conversation what it keeps warm", () => {
    message();
    run("heartbeat");
    expect(end(true)).toEqual([]);
    expect(sessions.phase(S, nowS)).toBe("warm");
  });
});

describe("sub-agents", () => {
  const spawn = (parent: string | undefined = S) => take({ type: "spawned", session: CHILD, parent, model: "small" });

  it("find their model on its way before they ask, in their parent's class", () => {
    sessions = new Sessions({ ...RULES, priority: "interactive" });
    message();
    expect(spawn()).toEqual([warm("small", CHILD, { priority: "interactive" })]);
  });

  it("are over when their run is", () => {
    message();
    spawn();
    run("user", CHILD, "small");
    expect(end(false, CHILD)).toEqual([released("small", CHILD)]);
  });

  it.each(["cron", "heartbeat"] as const)("of a %s load no more than it may itself", (trigger) => {
    run(trigger);
    expect(spawn()).toEqual([]);
    expect(run("user", CHILD, "small", "r2")).toEqual([]);
    expect(call(CHILD, "small", "r2")).toEqual([]);
    expect(take({ type: "tick" })).toEqual([]);
  });
});

it("remembers a bounded number of conversations", () => {
  for (let number = 0; number < MAX_SESSIONS + 5; number += 1) message(`s${number}`);
  expect(sessions.size).toBe(MAX_SESSIONS);
});
