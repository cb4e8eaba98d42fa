/**
 * The optional mode `waitForLease`: a call to our provider is made when its turn has come. The wait is the plugin's, so
 * none of OpenClaw's limits on a silent answer runs meanwhile; the user's abort ends it at once.
 *
 * Rule: whatever goes wrong, the call is made all the same; it then waits in line by itself.
 */

import type { components } from "./broker-api.js";
import type { BrokerClient } from "./client.js";

type Lease = components["schemas"]["Lease"];

/** What this needs of OpenClaw's stream functions. */
export type Stream = (model: { id: string }, context: object, options?: StreamOptions) => unknown;
interface StreamOptions {
  sessionId?: string;
  signal?: AbortSignal;
}

/** Whose call it is and of which model, as the broker knows them; undefined: it is made at once. */
export type Caller = (sessionId: string | undefined, model: string) => { sessionKey: string; model: string } | undefined;

export const HOLDER = "openclaw-wait";
/** One long poll, seconds; below the 60 s of common proxies. */
const POLL_S = 20;
const POLL_LIMIT_MS = (POLL_S + 10) * 1000;

/** A stream function that waits first. */
export function waitingStream(client: BrokerClient, inner: Stream, callerOf: Caller): Stream {
  return async (model, context, options) => {
    const caller = callerOf(options?.sessionId, model.id);
    const lease = caller === undefined ? undefined : await turnOf(client, caller, options?.signal);
    const answer = inner(model, context, options);
    if (lease !== undefined) void giveBack(client, lease); // the call has a lease of its own by now, or is next in line
    return answer;
  };
}

/** Wait in line; undefined where the broker has no answer of use or the user aborted. */
async function turnOf(client: BrokerClient, caller: object, signal: AbortSignal | undefined): Promise<Lease | undefined> {
  const wish = { ...caller, intent: "use", holder: HOLDER, ttlSeconds: 60, wait: POLL_S, cancelOnDisconnect: true };
  let lease: Lease | undefined;
  try {
    lease = await client.ask<Lease>("POST", "/lease", wish, POLL_LIMIT_MS, signal);
    while (lease.state === "queued") {
      lease = await client.ask<Lease>("GET", `/lease/${lease.leaseId}?wait=${POLL_S}`, undefined, POLL_LIMIT_MS, signal);
    }
    return lease;
  } catch {
    if (lease !== undefined) void giveBack(client, lease);
    return undefined;
  }
}

async function giveBack(client: BrokerClient, { leaseId, nonce }: Lease): Promise<void> {
  await client.ask("POST", "/release", { leaseId, nonce }, POLL_LIMIT_MS).catch(() => undefined); // else it expires
}
