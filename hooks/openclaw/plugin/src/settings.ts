/** The plugin's own configuration, and what it needs of OpenClaw's. */

import { readFileSync } from "node:fs";

import type { BackgroundMode, Priority, Rules } from "./sessions.js";

export const DEFAULT_URL = "http://127.0.0.1:4687";

export interface Settings extends Rules {
  readonly brokerUrl: string;
  readonly apiKeyFile: string;
  /** A call is made when its turn has come, rather than waiting in line by itself. */
  readonly waitForLease: boolean;
  /** Tokens of one request to a model of which the broker does not know them. */
  readonly contextTokens: number;
  readonly providers: readonly string[];
  /** `provider/model` in OpenClaw to the name in the broker's catalogue. */
  readonly models: Readonly<Record<string, string>>;
}

/** Read what OpenClaw has checked against `configSchema`; defaults are the manifest's. */
export function settingsOf(given: Record<string, unknown> | undefined): Settings {
  const config = given ?? {};
  return {
    brokerUrl: (config["brokerUrl"] as string | undefined) ?? DEFAULT_URL,
    apiKeyFile: (config["apiKeyFile"] as string | undefined) ?? "",
    waitForLease: config["waitForLease"] === true,
    contextTokens: (config["contextTokens"] as number | undefined) ?? 32_768,
    providers: (config["providers"] as string[] | undefined) ?? ["hotseat"],
    models: (config["models"] as Record<string, string> | undefined) ?? {},
    ttlS: (config["ttlSeconds"] as number | undefined) ?? 120,
    activeS: (config["activeSeconds"] as number | undefined) ?? 900,
    priority: (config["priority"] as Priority | undefined) ?? "normal",
    cron: (config["cron"] as BackgroundMode | undefined) ?? "ride",
    heartbeat: (config["heartbeat"] as BackgroundMode | undefined) ?? "ride",
  };
}

/** The name of a model in the broker's catalogue; undefined: it is not the broker's. */
export function modelName(settings: Settings, provider: string | undefined, model: string | undefined): string | undefined {
  if (provider === undefined || model === undefined) return undefined;
  return settings.models[`${provider}/${model}`] ?? (settings.providers.includes(provider) ? model : undefined);
}

/** As `modelName`, of `provider/model`; the model's own name may have slashes. */
export function modelNamed(settings: Settings, reference: string | undefined): string | undefined {
  const slash = reference?.indexOf("/") ?? -1;
  if (reference === undefined || slash < 0) return undefined;
  return modelName(settings, reference.slice(0, slash), reference.slice(slash + 1));
}

/** `provider/model` that a new session of an agent starts with; undefined where the configuration does not say. */
export function defaultModel(config: object, sessionKey: string): string | undefined {
  const agents = field(config, "agents");
  const id = /^agent:([^:]+):/.exec(sessionKey)?.[1];
  const list = field(agents, "list");
  const own = Array.isArray(list) ? list.find((agent: unknown) => field(agent, "id") === id) : undefined;
  return primary(field(own, "model")) ?? primary(field(field(agents, "defaults"), "model"));
}

function primary(model: unknown): string | undefined {
  const name = typeof model === "string" ? model : field(model, "primary");
  return typeof name === "string" ? name : undefined;
}

function field(value: unknown, name: string): unknown {
  return typeof value === "object" && value !== null ? (value as Record<string, unknown>)[name] : undefined;
}

/** Where the provider's key is, and the plugin's where it has no file. */
export const KEY_VARIABLE = "HOTSEAT_API_KEY";

/** The provider's key is looked up again after so long: keys are exchanged without a restart. */
export const KEY_KEPT_MS = 10_000;

/** What OpenClaw has for the provider: of its environment or of a login. */
export type ProviderKey = () => Promise<string | undefined>;

/** The key in a file, read anew each time; without a file the provider's own, which may be any text. */
export function keyReader(path: string, providerKey: ProviderKey = ofEnvironment): () => string | Promise<string> {
  if (path === "") return kept(providerKey);
  return () => {
    try {
      return readFileSync(path, "utf8").trim();
    } catch {
      return ""; // the broker says that a key is missing
    }
  };
}

function ofEnvironment(): Promise<string | undefined> {
  return Promise.resolve(process.env[KEY_VARIABLE]);
}

function kept(providerKey: ProviderKey): () => Promise<string> {
  let known: Promise<string> | undefined;
  let untilMs = 0;
  return () => {
    if (known === undefined || performance.now() >= untilMs) {
      untilMs = performance.now() + KEY_KEPT_MS;
      known = providerKey()
        .catch(ofEnvironment)
        .then((key) => key?.trim() ?? "");
    }
    return known;
  };
}
