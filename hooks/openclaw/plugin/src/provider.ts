/** The provider `hotseat`: its models are those of the broker's `/v1/models`, its time-outs those of a queue. */

import { isIP } from "node:net";

import type { BrokerClient } from "./client.js";
import type { ModelEntry, ProviderConfig, RuntimeModel } from "./openclaw-api.js";
import type { Settings } from "./settings.js";

/** As in the manifest. */
export const PROVIDER = "hotseat";
/** Raises OpenClaw's waits for headers, for the first event and between two events together, seconds. */
export const PATIENCE_S = 1800;
const REPLY_TOKENS = 8192;
/** OpenClaw's own limit for looking at a local server is 2.5 s. */
const LIST_LIMIT_MS = 2500;

const CHAT = "/v1/chat/completions";

/** A model as the broker's `/v1/models` tells of it; what it does not know is left out. */
export interface ModelCard {
  id: string;
  owned_by?: string;
  context_length?: number;
  architecture?: { input_modalities?: string[]; output_modalities?: string[] };
  supported_endpoints?: string[];
}

export interface ModelList {
  data: ModelCard[];
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
    return { provider: { ...providerOf(settings, data), apiKey } };
  } catch {
    return undefined;
  }
}

/**
 * A model that OpenClaw has in no catalogue, for it asked while the broker was away: the broker is asked once more. While it
 * stays away the model is taken for granted, and the call meets that by itself. A model the broker does not have is unknown.
 */
export async function modelOf(client: BrokerClient, settings: Settings, id: string): Promise<RuntimeModel | undefined> {
  const { models: _, request, timeoutSeconds, ...provider } = providerOf(settings, []);
  if (request !== undefined) return undefined; // a model alone cannot carry that permission
  const listed = await client.get<ModelList>("/v1/models", LIST_LIMIT_MS).catch(() => ({ data: [{ id }] }));
  const card = listed.data.find((each) => each.id === id && isForChat(each));
  if (card === undefined) return undefined;
  const entry = entryOf(card, settings.contextTokens);
  return { ...entry, ...provider, provider: PROVIDER, requestTimeoutMs: timeoutSeconds * 1000 };
}

/** As `hotseat export openclaw` writes it. */
export function providerOf(settings: Settings, models: readonly ModelCard[]): ProviderConfig {
  const baseUrl = `${settings.brokerUrl.replace(/\/+$/, "")}/v1`;
  const entries = models.filter(isForChat).map((card) => entryOf(card, settings.contextTokens));
  const request = needsPermission(new URL(baseUrl).hostname) ? { request: { allowPrivateNetwork: true } } : {};
  return { baseUrl, api: "openai-completions", timeoutSeconds: PATIENCE_S, ...request, models: entries };
}

/** OpenClaw blocks host names that resolve to its own machine, but no addresses and no `.local` names. */
function needsPermission(host: string): boolean {
  return isIP(host.replace(/^\[|\]$/g, "")) === 0 && !host.endsWith(".local");
}

/** Not for embeddings, and not at another address only. */
export function isForChat({ architecture, supported_endpoints }: ModelCard): boolean {
  return (architecture?.output_modalities ?? ["text"]).includes("text") && (supported_endpoints ?? [CHAT]).includes(CHAT);
}

function entryOf({ id, context_length, architecture }: ModelCard, contextTokens: number): ModelEntry {
  const contextWindow = context_length ?? contextTokens;
  return {
    id,
    name: id,
    reasoning: false,
    input: architecture?.input_modalities?.includes("image") ? ["text", "image"] : ["text"],
    contextWindow,
    maxTokens: Math.min(REPLY_TOKENS, Math.max(1, Math.floor(contextWindow / 2))),
    cost: { input: 0, output: 0, cacheRead: 0, cacheWrite: 0 },
    compat: { sendSessionAffinityHeaders: true },
  };
}
