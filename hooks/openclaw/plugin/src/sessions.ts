/**
 * Which models conversations keep warm, and what to tell the broker about it.
 *
 * Rule: pure. Events and the time go in, effects come out; a conversation that nobody ends lapses by itself, because a
 * warm lease lives `ttlS` and is prolonged only while somebody talks.
 */

import type { Effect, Model, Named, Phase, Priority, Rules, SessionEvent, Trigger } from "./session-events.js";

export type * from "./session-events.js";

interface Run {
  readonly trigger: Trigger;
  readonly calls: Set<string>;
  seenS: number;
}

interface Session {
  /** What its next call will ask for, as far as is known. */
  model: string | undefined;
  /** When a person, or a sub-agent's parent, last did something here; undefined: only background runs so far. */
  activeS: number | undefined;
  /** A sub-agent's: over when its run is over. */
  readonly child: boolean;
  priority: Priority;
  readonly runs: Map<string, Run>;
  /** Models told to be warm, and when each was last said; armed ones last longer. */
  readonly warm: Map<string, { saidS: number; armedUntilS: number }>;
}

/** A run without any sign of life for so long has ended unseen. OpenClaw itself gives one up after 30 minutes. */
export const SILENT_RUN_S = 2100;
export const MAX_SESSIONS = 2000;

export class Sessions {
  readonly #sessions = new Map<string, Session>();

  constructor(public rules: Rules) {}

  get size(): number {
    return this.#sessions.size;
  }

  phase(session: string, nowS: number): Phase {
    const known = this.#sessions.get(session);
    if (known === undefined) return "idle";
    if ([...known.runs.values()].some((run) => run.calls.size > 0)) return "in_use";
    if (known.runs.size > 0) return "running";
    return this.#isLive(known, nowS) ? "warm" : "idle";
  }

  /** Does nobody wait for what it calls now? So with cron, heartbeats and their sub-agents. */
  isBackground(session: string): boolean {
    const known = this.#sessions.get(session);
    if (known === undefined || known.runs.size === 0) return false;
    if (known.child) return known.priority === "background";
    return [...known.runs.values()].every((run) => run.trigger !== "user");
  }

  modelOf(session: string): string | undefined {
    return this.#sessions.get(session)?.model;
  }

  /** Take note of an event. `nowS`: seconds of any clock that does not go backwards. */
  take(event: SessionEvent, nowS: number): Effect[] {
    switch (event.type) {
      case "messageReceived":
        return this.#spoken(event, nowS);
      case "seen":
        return this.#seen(event.session, nowS);
      case "runStarted":
        return this.#runStarted(event, nowS);
      case "callStarted":
        return this.#callStarted(event, nowS);
      case "callEnded":
        this.#sessions.get(event.session)?.runs.get(event.run)?.calls.delete(event.call);
        return [];
      case "runEnded":
        return this.#runEnded(event, nowS);
      case "spawned":
        return this.#spawned(event, nowS);
      case "modelChanged":
        return this.#modelChanged(event, nowS);
      case "armed":
        return this.#armed(event, nowS);
      case "ended":
        return this.#ended(event.session);
      case "tick":
        return this.#tick(nowS);
    }
  }

  #open(key: string, child = false): Session {
    const known = this.#sessions.get(key);
    if (known !== undefined) {
      this.#sessions.delete(key);
      this.#sessions.set(key, known); // the map is in the order of last use
      return known;
    }
    const fresh: Session = {
      model: undefined,
      activeS: undefined,
      child,
      priority: this.rules.priority,
      runs: new Map(),
      warm: new Map(),
    };
    this.#sessions.set(key, fresh);
    if (this.#sessions.size > MAX_SESSIONS) this.#sessions.delete(this.#sessions.keys().next().value as string);
    return fresh;
  }

  #spoken(event: Named & Model, nowS: number): Effect[] {
    const session = this.#open(event.session);
    session.activeS = nowS;
    session.priority = this.rules.priority;
    session.model ??= event.model;
    return this.#warm(event.session, session, nowS);
  }

  /** It opens nothing: a conversation that is over stays so. */
  #seen(key: string, nowS: number): Effect[] {
    const session = this.#sessions.get(key);
    if (session === undefined || session.activeS === undefined || !this.#isLive(session, nowS)) return [];
    session.activeS = nowS;
    return this.#warm(key, session, nowS);
  }

  #runStarted(event: Extract<SessionEvent, { type: "runStarted" }>, nowS: number): Effect[] {
    const session = this.#open(event.session);
    session.runs.set(event.run, { trigger: event.trigger, calls: new Set(), seenS: nowS });
    session.model = event.model ?? session.model;
    return this.#driven(event.session, session, event.trigger, nowS);
  }

  /** Warm the model for a run, if its trigger may. */
  #driven(key: string, session: Session, trigger: Trigger, nowS: number): Effect[] {
    if (trigger === "user") {
      if (session.activeS === undefined && session.child) return this.#warmIfLive(key, session, nowS);
      session.activeS = nowS;
      return this.#warm(key, session, nowS);
    }
    if (session.activeS === undefined) session.priority = "background";
    return this.rules[trigger] === "ride" ? [] : this.#warm(key, session, nowS);
  }

  #callStarted(event: Extract<SessionEvent, { type: "callStarted" }>, nowS: number): Effect[] {
    const { model, span } = event;
    if (model === undefined) return [];
    const session = this.#open(event.session);
    const trigger = session.runs.get(event.run)?.trigger ?? event.trigger;
    const effects: Effect[] = span === undefined ? [] : [{ type: "span", session: event.session, model, span }];
    if (trigger === undefined) return [...effects, ...this.#warmIfLive(event.session, session, nowS)]; // compaction
    const run = session.runs.get(event.run) ?? { trigger, calls: new Set<string>(), seenS: nowS };
    session.runs.set(event.run, run);
    run.calls.add(event.call);
    run.seenS = nowS;
    session.model = model;
    return [...effects, ...this.#driven(event.session, session, trigger, nowS)];
  }

  #runEnded(event: Extract<SessionEvent, { type: "runEnded" }>, nowS: number): Effect[] {
    const session = this.#sessions.get(event.session);
    const run = session?.runs.get(event.run);
    if (session === undefined || run === undefined) return []; // it may be told twice
    session.runs.delete(event.run);
    if (session.runs.size > 0) return [];
    const over = session.child || session.activeS === undefined || (event.aborted && run.trigger === "user");
    if (over) return this.#ended(event.session);
    if (run.trigger !== "user") return [];
    session.activeS = nowS;
    return this.#warm(event.session, session, nowS);
  }

  #spawned(event: Extract<SessionEvent, { type: "spawned" }>, nowS: number): Effect[] {
    const parent = event.parent === undefined ? undefined : this.#sessions.get(event.parent);
    const child = this.#open(event.session, true);
    child.model = event.model ?? child.model;
    child.priority = parent?.priority ?? this.rules.priority;
    const background = parent !== undefined && this.#isBackground(parent, nowS);
    if (background && parent.warm.size === 0) return [];
    child.activeS = nowS;
    return this.#warm(event.session, child, nowS);
  }

  /** Is nothing but cron and heartbeats going on? */
  #isBackground(session: Session, nowS: number): boolean {
    const runs = [...session.runs.values()];
    if (runs.length > 0) return runs.every((run) => run.trigger !== "user") || (session.child && !session.activeS);
    return !this.#isLive(session, nowS);
  }

  #modelChanged(event: Named & Model, nowS: number): Effect[] {
    const session = this.#open(event.session);
    const old = session.model;
    session.activeS = nowS;
    session.model = event.model;
    if (old === undefined || old === event.model) return this.#warm(event.session, session, nowS);
    return [...this.#letGo(event.session, session, old, nowS), ...this.#warm(event.session, session, nowS)];
  }

  #letGo(key: string, session: Session, model: string, nowS: number): Effect[] {
    const said = session.warm.get(model);
    if (said === undefined || said.armedUntilS > nowS) return [];
    session.warm.delete(model);
    return [{ type: "release", session: key, model }];
  }

  #armed(event: Extract<SessionEvent, { type: "armed" }>, nowS: number): Effect[] {
    const { session: key, model, forS: ttlS } = event;
    const session = this.#open(key);
    session.warm.set(model, { saidS: nowS, armedUntilS: nowS + ttlS });
    return [{ type: "warm", session: key, model, ttlS, priority: session.priority }];
  }

  #ended(key: string): Effect[] {
    const session = this.#sessions.get(key);
    this.#sessions.delete(key);
    return [...(session?.warm.keys() ?? [])].map((model) => ({ type: "release", session: key, model }));
  }

  #tick(nowS: number): Effect[] {
    const effects: Effect[] = [];
    for (const [key, session] of this.#sessions) {
      for (const [id, run] of session.runs) if (nowS - run.seenS > SILENT_RUN_S) session.runs.delete(id);
      for (const [model, said] of session.warm) if (this.#isForgotten(said, nowS)) session.warm.delete(model);
      effects.push(...this.#warmIfLive(key, session, nowS));
      if (session.runs.size === 0 && session.warm.size === 0 && !this.#isLive(session, nowS)) this.#sessions.delete(key);
    }
    return effects;
  }

  #isForgotten(said: { saidS: number; armedUntilS: number }, nowS: number): boolean {
    return nowS > Math.max(said.saidS + this.rules.ttlS, said.armedUntilS);
  }

  #isLive(session: Session, nowS: number): boolean {
    const driven = [...session.runs.values()].some((run) => run.trigger === "user" || this.rules[run.trigger] === "load");
    if (session.activeS === undefined) return driven && !session.child;
    return driven || nowS - session.activeS < this.rules.activeS;
  }

  #warmIfLive(key: string, session: Session, nowS: number): Effect[] {
    return this.#isLive(session, nowS) ? this.#warm(key, session, nowS) : [];
  }

  #warm(session: string, state: Session, nowS: number): Effect[] {
    const { model, priority } = state;
    if (model === undefined) return [];
    const said = state.warm.get(model);
    if (said !== undefined && nowS - said.saidS < this.rules.ttlS / 6) return [];
    state.warm.set(model, { saidS: nowS, armedUntilS: said?.armedUntilS ?? 0 });
    return [{ type: "warm", session, model, ttlS: this.rules.ttlS, priority }];
  }
}
