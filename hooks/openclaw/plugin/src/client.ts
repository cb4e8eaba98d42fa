/**
 * Tells the broker and never waits for it: a bounded line of messages, sent one after the other, each with a short
 * time limit. What the broker does not take is dropped: the next tick says it again, and a lease lapses by itself.
 */

import type { components } from "./broker-api.js";
import type { Effect } from "./sessions.js";

type Schemas = components["schemas"];
export type Activity = Schemas["ActivityRequest"];
export type Span = Schemas["SpanRequest"];
export type ModelInfo = Schemas["ModelInfo"];
export type QueueEntry = Schemas["QueueEntry"];

export interface Log {
  info(line: string): void;
  warn(line: string): void;
}

export interface ClientOptions {
  readonly url: string;
  /** Read anew for each request: keys are exchanged without a restart. Empty: no key. */
  readonly apiKey: () => string | Promise<string>;
  readonly log: Log;
  readonly nowMs?: () => number;
  readonly fetch?: typeof fetch;
}

/** Messages waiting at most; the oldest gives way. */
export const MAX_WAITING = 256;
export const SEND_LIMIT_MS = 2000;
export const SPAN_LIMIT_MS = 1000;
export const MAX_SPANS_IN_FLIGHT = 16;
/** After a failure nothing is sent for so long, so that a broker that is away costs next to nothing. */
export const PAUSE_MS = 2000;
const MAX_SEQUENCES = 4000;

/** The broker did not take it. */
export class BrokerError extends Error {
  override readonly name = "BrokerError";

  /** `status` is 0 where there was no answer. */
  constructor(
    message: string,
    readonly status = 0,
  ) {
    super(message);
  }
}

export class BrokerClient {
  readonly #waiting: Activity[] = [];
  readonly #sequences = new Map<string, number>();
  readonly #complaints = new Set<string>();
  #sending: Promise<void> | undefined;
  #pausedUntilMs = 0;
  #spans = 0;
  #trouble = "";
  dropped = 0;

  constructor(private readonly options: ClientOptions) {}

  /** Why the broker does not take messages; empty: it does. */
  get trouble(): string {
    return this.#trouble;
  }

  get waiting(): number {
    return this.#waiting.length;
  }

  /** Put effects in line; returns at once and never throws. */
  publish(effects: readonly Effect[]): void {
    for (const effect of effects) {
      if (effect.type === "span") this.#register(effect);
      else this.#enqueue(effect);
    }
  }

  /** Until the line is empty; for tests and the end of the process. */
  async flushed(): Promise<void> {
    while (this.#sending !== undefined) await this.#sending;
  }

  /** Ask the broker something for a person. Throws BrokerError. */
  async get<T>(path: string, limitMs: number): Promise<T> {
    return await this.ask<T>("GET", path, undefined, limitMs);
  }

  /** Any call that somebody waits for; `signal` gives up at once. Throws BrokerError. */
  async ask<T>(method: string, path: string, body: object | undefined, limitMs: number, signal?: AbortSignal): Promise<T> {
    const answer = await this.#fetch(method, path, body && JSON.stringify(body), limitMs, signal);
    if (!answer.ok) throw new BrokerError(await detailOf(answer), answer.status);
    return (await answer.json()) as T;
  }

  /** Say one thing and hear whether it was taken. Throws BrokerError. */
  async tell(effect: Exclude<Effect, { type: "span" }>): Promise<void> {
    await this.#post("/activity", this.#message(effect), SEND_LIMIT_MS);
  }

  #message(effect: Exclude<Effect, { type: "span" }>): Activity {
    const sessionKey = label(effect.session);
    const seq = Math.max((this.#sequences.get(sessionKey) ?? 0) + 1, this.#nowMs());
    this.#sequences.delete(sessionKey);
    this.#sequences.set(sessionKey, seq);
    if (this.#sequences.size > MAX_SEQUENCES) this.#sequences.delete(this.#sequences.keys().next().value as string);
    const { model } = effect;
    if (effect.type === "release") return { type: "release", sessionKey, model, seq, priority: "normal" };
    return { type: "activity", sessionKey, model, seq, ttlSeconds: effect.ttlS, priority: effect.priority };
  }

  #enqueue(effect: Exclude<Effect, { type: "span" }>): void {
    if (this.#waiting.length >= MAX_WAITING) {
      this.#waiting.shift();
      this.dropped += 1;
    }
    this.#waiting.push(this.#message(effect));
    this.#sending ??= this.#drain().finally(() => {
      this.#sending = undefined;
    });
  }

  async #drain(): Promise<void> {
    await Promise.resolve(); // whoever published goes on first
    for (let message = this.#waiting.shift(); message !== undefined; message = this.#waiting.shift()) {
      if (this.#nowMs() < this.#pausedUntilMs) {
        this.dropped += 1;
        continue;
      }
      await this.#attempt(message);
    }
  }

  async #attempt(message: Activity): Promise<void> {
    try {
      await this.#post("/activity", message, SEND_LIMIT_MS);
      this.#recovered();
    } catch (error) {
      this.dropped += 1;
      this.#failed(error, message.model);
    }
  }

  #register(effect: Extract<Effect, { type: "span" }>): void {
    if (this.#spans >= MAX_SPANS_IN_FLIGHT || this.#nowMs() < this.#pausedUntilMs) {
      this.dropped += 1;
      return;
    }
    this.#spans += 1;
    const body: Span = { spanId: effect.span, sessionKey: label(effect.session), model: effect.model };
    this.#post("/sessions/span", body, SPAN_LIMIT_MS)
      .catch((error: unknown) => this.#failed(error, body.model))
      .finally(() => {
        this.#spans -= 1;
      });
  }

  async #post(path: string, body: Activity | Span, limitMs: number): Promise<void> {
    const answer = await this.#fetch("POST", path, JSON.stringify(body), limitMs);
    if (answer.ok) {
      await answer.arrayBuffer();
      return;
    }
    const why = await detailOf(answer);
    if (answer.status >= 500 || answer.status === 429 || answer.status === 401) throw new BrokerError(why, answer.status);
    throw new RefusedError(why, answer.status);
  }

  async #fetch(
    method: string,
    path: string,
    body: string | undefined,
    limitMs: number,
    givenUp?: AbortSignal,
  ): Promise<Response> {
    const key = await this.options.apiKey();
    const headers: Record<string, string> = body === undefined ? {} : { "content-type": "application/json" };
    if (key !== "") headers["authorization"] = `Bearer ${key}`;
    const limit = AbortSignal.timeout(limitMs);
    const signal = givenUp === undefined ? limit : AbortSignal.any([limit, givenUp]);
    const request: RequestInit = { method, headers, signal, redirect: "error" };
    if (body !== undefined) request.body = body;
    try {
      return await (this.options.fetch ?? fetch)(this.options.url.replace(/\/+$/, "") + path, request);
    } catch (error) {
      throw new BrokerError(`no answer from ${this.options.url}: ${reasonOf(error)}`);
    }
  }

  #failed(error: unknown, model: string): void {
    if (error instanceof RefusedError) return this.#complain(model, error.message);
    this.#pausedUntilMs = this.#nowMs() + PAUSE_MS;
    const why = error instanceof Error ? error.message : String(error);
    if (this.#trouble === "") this.options.log.warn(`hotseat: ${why}; conversations go on, nothing is kept warm`);
    this.#trouble = why;
  }

  #recovered(): void {
    if (this.#trouble !== "") this.options.log.info("hotseat: the broker answers again");
    this.#trouble = "";
  }

  /** A refusal concerns one model or session; the others go on. */
  #complain(model: string, why: string): void {
    const line = `hotseat: ${model} is not kept warm: ${why}`;
    if (this.#complaints.has(line) || this.#complaints.size >= 100) return;
    this.#complaints.add(line);
    this.options.log.warn(line);
  }

  #nowMs(): number {
    return (this.options.nowMs ?? Date.now)();
  }
}

/** The broker understood and says no; asking again would not help. */
export class RefusedError extends BrokerError {}

/** A session key as the broker takes it: no braces, no control characters, 256 characters. */
export function label(session: string): string {
  return session.replace(/[\u0000-\u001f\u007f-\u009f{}\u2028\u2029]/g, encodeURIComponent).slice(0, 256);
}

async function detailOf(answer: Response): Promise<string> {
  const text = await answer.text().catch(() => "");
  try {
    const said = JSON.parse(text) as { detail?: unknown; error?: { message?: unknown } };
    const detail = said.detail ?? said.error?.message;
    if (typeof detail === "string") return `the broker says: ${detail.slice(0, 300)}`;
  } catch {
    // not ours: a proxy's page
  }
  return `the broker answers ${answer.status}`;
}

function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  if (error.name === "TimeoutError") return "it took too long";
  return error.cause instanceof Error ? error.cause.message : error.message;
}
