/**
 * The setup step: asks for the broker's address and key, tries them, and says what is to be written.
 *
 * Rule: nothing is written that the broker has not been asked about. The provider itself needs no block: its models,
 * time-outs and affinity headers come from the catalogue (`provider.ts`).
 */

import { BrokerClient, BrokerError, type ModelInfo } from "./client.js";
import type { Prompter, SetupContext, SetupMethod, SetupResult, UnattendedContext } from "./openclaw-api.js";
import { isForChat, type ModelCard, type ModelList, PROVIDER } from "./provider.js";
import { DEFAULT_URL, KEY_VARIABLE } from "./settings.js";

/** As in the manifest's `providerAuthChoices`. */
export const METHOD = "broker";
export const URL_VARIABLE = "HOTSEAT_URL";
/** Where the broker wants none: OpenClaw lists no models of a provider without a key. */
export const NO_KEY = "anonymous";
const PROFILE = `${PROVIDER}:default`;
const LIMIT_MS = 5000;
const MAKE_ONE = "`hotseat key new openclaw --scope lease` makes one";

/** What the broker said. */
export interface Broker {
  readonly url: string;
  readonly key: string;
  /** That can chat; the pool's default first. */
  readonly models: readonly ModelCard[];
}

/** Stores a credential where no person is asked; OpenClaw's own. */
export type Store = (profileId: string, credential: object, agentDir: string | undefined) => Promise<void>;

interface Parts {
  readonly fetch?: typeof fetch;
  readonly store?: Store;
}

/** Registered with the provider: `openclaw models auth login --provider hotseat`, `openclaw onboard`. */
export function setupMethod(parts: Parts = {}): SetupMethod {
  return {
    id: METHOD,
    label: "Hotseat broker",
    hint: "Address and key of the broker that leases the GPU",
    kind: "custom",
    run: (ctx) => attended(ctx, parts),
    runNonInteractive: (ctx) => unattended(ctx, parts),
  };
}

/** Ask the broker whether address and key are right. Throws Error that says what to do. */
export async function tried(url: string, key: string, parts: Parts = {}): Promise<Broker> {
  const apiKey = () => key;
  const log = { info: () => undefined, warn: () => undefined };
  const client = new BrokerClient({ url, apiKey, log, ...(parts.fetch && { fetch: parts.fetch }) });
  try {
    const { data } = await client.get<ModelList>("/v1/models", LIMIT_MS);
    const { models } = await client.get<{ models: ModelInfo[] }>("/models", LIMIT_MS);
    if (data.length > 0 && !data.some(({ owned_by }) => owned_by === "hotseat")) throw new TypeError("another server");
    const first = models.find(({ isDefault }) => isDefault)?.name;
    const chatting = data.filter(isForChat).sort((a, b) => Number(b.id === first) - Number(a.id === first));
    if (chatting.length === 0) throw new Error(`the broker at ${url} has no model for this key that can chat`);
    return { url, key: key || NO_KEY, models: chatting };
  } catch (error) {
    throw new Error(explained(error, url, key));
  }
}

function explained(error: unknown, url: string, key: string): string {
  if (!(error instanceof BrokerError)) {
    if (error instanceof TypeError || error instanceof SyntaxError) return `${url} is no Hotseat broker`;
    return error instanceof Error ? error.message : String(error);
  }
  if (error.status === 0) return `${error.message}; is the broker up, and is this its address?`;
  if (error.status === 401 && key === "") return `the broker at ${url} wants a key; ${MAKE_ONE}`;
  if (error.status === 401) return `the broker at ${url} does not know this key; ${MAKE_ONE}`;
  if (error.status === 403) return `the key may not take leases; ${MAKE_ONE} that may`;
  if (error.status === 404) return `${url} is no Hotseat broker`;
  return `${url}: ${error.message}`;
}

async function attended(ctx: SetupContext, parts: Parts): Promise<SetupResult> {
  const broker = await asked(ctx, parts);
  const model = ctx.credentialOnly === true ? undefined : await chosen(ctx.prompter, broker.models);
  const holdsBack = await ctx.prompter.confirm({
    message: "Skip heartbeats and cron jobs whose model is not loaded? (needs allowConversationAccess; no message is read)",
    initialValue: true,
  });
  return {
    profiles: [{ profileId: PROFILE, credential: credentialOf(broker.key) }],
    configPatch: patchOf(broker.url, holdsBack),
    ...(model !== undefined && { defaultModel: `${PROVIDER}/${model}` }),
    notes: notesOf(ctx.config),
  };
}

async function asked({ prompter, opts, config, env = process.env }: SetupContext, parts: Parts): Promise<Broker> {
  let url = word(opts?.["customBaseUrl"]) ?? currentUrl(config) ?? env[URL_VARIABLE] ?? DEFAULT_URL;
  for (;;) {
    url = await prompter.text({ message: "Address of the Hotseat broker", initialValue: url, validate: complaintOf });
    url = plainUrl(url);
    const key = await askedKey(prompter, env);
    try {
      return await tried(url, key, parts);
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      await prompter.note(why, "Hotseat");
      if (!(await prompter.confirm({ message: "Try again?", initialValue: true }))) throw new Error(why);
    }
  }
}

async function askedKey(prompter: Prompter, env: NodeJS.ProcessEnv): Promise<string> {
  const known = word(env[KEY_VARIABLE]);
  if (known !== undefined) {
    const message = `Use the key in ${KEY_VARIABLE}?`;
    if (await prompter.confirm({ message, initialValue: true })) return known;
  }
  const message = "API key (hsk_…; empty where the broker is anonymous)";
  return ((await prompter.text({ message, sensitive: true })) ?? "").trim();
}

async function chosen(prompter: Prompter, models: readonly ModelCard[]): Promise<string | undefined> {
  if (models.length === 1) return models[0]?.id;
  const options = models.map(({ id, context_length }) => ({
    value: id,
    label: id,
    ...(context_length !== undefined && { hint: `${context_length} tokens` }),
  }));
  return await prompter.select({ message: "Model of new conversations", options });
}

/** With `--custom-base-url`, `--custom-api-key` and `--custom-model-id`, or the variables; throws what is wrong. */
async function unattended(ctx: UnattendedContext, parts: Parts): Promise<object | null> {
  const given = word(ctx.opts["customBaseUrl"]) ?? process.env[URL_VARIABLE] ?? currentUrl(ctx.config) ?? DEFAULT_URL;
  const url = plainUrl(given);
  const complaint = complaintOf(url);
  if (complaint !== undefined) return refused(ctx, complaint);
  const flag = word(ctx.opts["customApiKey"]);
  const names = { provider: PROVIDER, flagName: "--custom-api-key", envVar: KEY_VARIABLE, envVarName: KEY_VARIABLE } as const;
  const found = await ctx.resolveApiKey({ ...names, ...(flag && { flagValue: flag }), required: false });
  let broker: Broker;
  try {
    broker = await tried(url, found?.key ?? "", parts);
  } catch (error) {
    return refused(ctx, error instanceof Error ? error.message : String(error));
  }
  const wish = word(ctx.opts["customModelId"]);
  const model = wish === undefined ? broker.models[0]?.id : broker.models.find(({ id }) => id === wish)?.id;
  if (model === undefined) return refused(ctx, `the broker at ${url} has no model ${String(wish)} that can chat`);
  await (parts.store ?? stored)(PROFILE, credentialOf(broker.key), ctx.agentDir);
  ctx.runtime.log(`Hotseat at ${url}; new conversations begin with ${PROVIDER}/${model}`);
  ctx.runtime.log("Heartbeats and cron jobs whose model is not loaded are skipped (hooks.allowConversationAccess)");
  for (const note of notesOf(ctx.config)) ctx.runtime.log(note);
  return merged(ctx.config, { ...patchOf(url, true), ...bindingOf(model) });
}

function refused(ctx: UnattendedContext, why: string): null {
  ctx.runtime.error(`Hotseat: ${why}`);
  ctx.runtime.exit(1);
  return null;
}

async function stored(profileId: string, credential: object, agentDir: string | undefined): Promise<void> {
  // Not for the compiler: neither building nor testing this plugin needs OpenClaw.
  const sdk = "openclaw/plugin-sdk/provider-auth";
  const { upsertAuthProfileWithLock } = (await import(sdk)) as {
    upsertAuthProfileWithLock: (params: object) => Promise<unknown>;
  };
  await upsertAuthProfileWithLock({ profileId, credential, ...(agentDir !== undefined && { agentDir }) });
}

function credentialOf(key: string): { type: "api_key"; provider: string; key: string } {
  return { type: "api_key", provider: PROVIDER, key };
}

function patchOf(brokerUrl: string, holdsBack: boolean): { plugins: object } {
  const hooks = holdsBack ? { hooks: { allowConversationAccess: true } } : {};
  return { plugins: { entries: { [PROVIDER]: { enabled: true, ...hooks, config: { brokerUrl } } } } };
}

function bindingOf(model: string): object {
  return {
    auth: { profiles: { [PROFILE]: { provider: PROVIDER, mode: "api_key" } } },
    agents: { defaults: { model: { primary: `${PROVIDER}/${model}` } } },
  };
}

function notesOf(config: object): string[] {
  const notes = [];
  if (at(config, "models", "providers", PROVIDER) !== undefined) {
    notes.push(`models.providers.${PROVIDER} is in the configuration and wins over what the broker tells; remove it.`);
  }
  if (word(at(config, "plugins", "entries", PROVIDER, "config", "apiKeyFile")) !== undefined) {
    notes.push("apiKeyFile is set: the plugin takes leases with that key, the provider's calls have the new one.");
  }
  return notes;
}

function currentUrl(config: object): string | undefined {
  return word(at(config, "plugins", "entries", PROVIDER, "config", "brokerUrl"));
}

function plainUrl(given: string): string {
  return given.trim().replace(/\/+$/, "").replace(/\/v1$/, "");
}

function complaintOf(url: string): string | undefined {
  return /^https?:\/\/[^\s/]/.test(url.trim()) ? undefined : "an address begins with http:// or https://";
}

function word(value: unknown): string | undefined {
  return typeof value === "string" && value.trim() !== "" ? value.trim() : undefined;
}

function at(value: unknown, ...path: string[]): unknown {
  return path.reduce<unknown>((found, name) => (isTable(found) ? found[name] : undefined), value);
}

function isTable(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Tables are merged, all else is replaced. */
function merged(base: object, patch: object): object {
  const result: Record<string, unknown> = { ...base };
  for (const [name, value] of Object.entries(patch)) {
    const old = result[name];
    result[name] = isTable(old) && isTable(value) ? merged(old, value) : value;
  }
  return result;
}
