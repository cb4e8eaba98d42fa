/** The chat command `/gpu`: what is loaded, who waits, my place; keep a model warm for a while; give it back. */

import { type BrokerClient, BrokerError, type ModelInfo, type QueueEntry, label } from "./client.js";
import type { Effect, SessionEvent } from "./sessions.js";

export const ASK_LIMIT_MS = 3000;
export const DEFAULT_ARMED_S = 20 * 60;
const MAX_ARMED_S = 86_400;
const USAGE = "Usage: /gpu · /gpu warm <model> [20m] · /gpu release";

export interface Hotseat {
  readonly client: BrokerClient;
  /** Tell the session machine; its effects are returned, not yet published. */
  readonly take: (event: SessionEvent) => Effect[];
}

export interface Asker {
  readonly sessionKey: string | undefined;
  readonly sessionId: string | undefined;
}

/** Answer the command; never throws. */
export async function gpuCommand(hotseat: Hotseat, asker: Asker, args: string): Promise<string> {
  const [verb = "status", ...rest] = args.trim().split(/\s+/).filter(Boolean);
  try {
    if (verb === "status") return await status(hotseat, asker);
    if (asker.sessionKey === undefined) return "This needs a conversation.";
    if (verb === "warm" && rest[0] !== undefined) return await warm(hotseat, asker.sessionKey, rest[0], rest[1]);
    if (verb === "release") return await release(hotseat, asker.sessionKey);
    return USAGE;
  } catch (error) {
    if (error instanceof BrokerError) return `Hotseat: ${error.message}`;
    throw error;
  }
}

async function status(hotseat: Hotseat, asker: Asker): Promise<string> {
  const { models } = await hotseat.client.get<{ models: ModelInfo[] }>("/models", ASK_LIMIT_MS);
  const { leases } = await hotseat.client.get<{ leases: QueueEntry[] }>("/queue", ASK_LIMIT_MS);
  const lines = models.map((model) => {
    const people = [count(model.holders, "in use"), count(model.warm, "warm"), count(model.waiters, "waiting")];
    return `${model.name}: ${[model.state, ...people.filter(Boolean)].join(", ")}`;
  });
  return [...lines, ...leases.filter((lease) => isMine(lease, asker)).map(mine)].join("\n");
}

function isMine(lease: QueueEntry, asker: Asker): boolean {
  const { sessionKey, sessionId } = asker;
  if (sessionKey !== undefined && lease.sessionKey === label(sessionKey)) return true;
  return sessionId !== undefined && lease.sessionKey.split(":")[0] === sessionId; // affinity headers: `<sessionId>:<n>`
}

function mine(lease: QueueEntry): string {
  if (lease.state !== "queued") return `You: ${lease.model} ${lease.intent}, ${duration(lease.expiresInSeconds)} left`;
  const eta = lease.etaSeconds == null ? "time unknown" : `about ${duration(lease.etaSeconds)}`;
  return `You: place ${lease.position ?? "?"} for ${lease.model}, ${eta}`;
}

async function warm(hotseat: Hotseat, session: string, model: string, asked: string | undefined): Promise<string> {
  const forS = asked === undefined ? DEFAULT_ARMED_S : secondsOf(asked);
  if (forS === undefined) return `"${asked}" is no time; try 90s, 20m or 2h. ${USAGE}`;
  const { models } = await hotseat.client.get<{ models: ModelInfo[] }>("/models", ASK_LIMIT_MS);
  const known = models.find((each) => each.name === model);
  if (known === undefined) return `No model "${model}". There are: ${models.map((each) => each.name).join(", ")}`;
  for (const effect of hotseat.take({ type: "armed", session, model, forS })) {
    if (effect.type !== "span") await hotseat.client.tell(effect);
  }
  return `${model} is kept warm for ${duration(forS)}${known.state === "ready" ? "" : `; it is ${known.state} now`}.`;
}

async function release(hotseat: Hotseat, session: string): Promise<string> {
  const effects = hotseat.take({ type: "ended", session }).filter((effect) => effect.type !== "span");
  for (const effect of effects) await hotseat.client.tell(effect);
  return effects.length === 0 ? "Nothing is kept warm here." : `Given back: ${effects.map(({ model }) => model).join(", ")}.`;
}

/** `90s`, `20m`, `2h`; a number alone is minutes. At most a day. */
export function secondsOf(text: string): number | undefined {
  const match = /^(\d{1,5})([smh]?)$/.exec(text);
  if (match === null) return undefined;
  const seconds = Number(match[1]) * { s: 1, m: 60, "": 60, h: 3600 }[match[2] as "s" | "m" | "h" | ""];
  return seconds > 0 && seconds <= MAX_ARMED_S ? seconds : undefined;
}

function duration(seconds: number | null | undefined): string {
  if (seconds == null) return "?";
  if (seconds < 90) return `${Math.round(seconds)} s`;
  return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${Math.round(seconds / 360) / 10} h`;
}

function count(number: number, word: string): string {
  return number > 0 ? `${number} ${word}` : "";
}
