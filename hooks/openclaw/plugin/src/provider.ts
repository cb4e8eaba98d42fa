/** The provider `hotseat`: its models are those of the broker's `/v1/models`, its time-outs those of a queue. */

import { isIP } from "node:net";

import type { BrokerClient } from "./client.js";
import type { ModelEntry, ProviderConfig } from "./openclaw-api.js";
import type { Settings } from "./settings.js";

/** As in the manifest. */
export const PROVIDER = "hotseat";
/** Raises OpenClaw's waits for headers, for the first event and between two events together, seconds. */
export const PATIENCE_S = 1800;
const REPLY_TOKENS = 8192;
/** OpenClaw's own limit for looking at a local server is 2.5 s. */
const LIST_LIMIT_MS = 2500;

interface ModelList {
  data: { id: string }[];
}

/** What the broker offers; undefined: it cannot be asked, and what OpenClaw knew before stays. */
export async function catalogueOf(
  client: BrokerClient,
  settings: Settings,
  apiKey: string | undefined,
): Promise<{ provider: ProviderConfig } | undefined> {
  if (apiKey === undefined) return undefined;
  try {
    const { data } = await client.get<ModelList>("/v1/models", LIST_LIMIT_MS);
    return { provider: { ...providerOf(settings, data.map(({ id }) => id)), apiKey } };
  } catch {
    return undefined;
  }
}

/** As `hotseat export openclaw` writes it. */
export function providerOf(settings: Settings, models: readonly string[]): ProviderConfig {
  const baseUrl = `${settings.brokerUrl.replace(/\/+$/, "")}/v1`;
  const entries = models.map((name) => entryOf(name, settings.contextTokens));
  const request = needsPermission(new URL(baseUrl).hostname) ? { request: { allowPrivateNetwork: true } } : {};
  return { baseUrl, api: "openai-completions", timeoutSeconds: PATIENCE_S, ...request, models: entries };
}

/** OpenClaw blocks host names that resolve to its own machine, but no addresses and no `.local` names. */
function needsPermission(host: string): boolean {
  return isIP(host.replace(/^\[|\]$/g, "")) === 0 && !host.endsWith(".local");
}

function entryOf(name: string, contextWindow: number): ModelEntry {
  return {
    id: name,
    name,
    reasoning: false,
    input: ["text"],
    contextWindow,
    maxTokens: Math.min(REPLY_TOKENS, Math.floor(contextWindow / 2)),
    cost: { input: 0, output: 0, cacheRead: 0, cacheWrite: 0 },
    compat: { sendSessionAffinityHeaders: true },
  };
}
