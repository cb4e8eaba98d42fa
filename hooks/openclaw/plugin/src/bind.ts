/**
 * OpenClaw's hooks turned into events of the session machine. Nothing here waits for the broker, but for one question
 * before a heartbeat or cron run, which no person waits for.
 *
 * Rule: of a hook's payload only keys, ids, model names, triggers and reasons are read. Of a message only whether it
 * begins with a slash.
 */

import { BrokerClient, label, type ModelInfo } from "./client.js";
import { gpuCommand } from "./gpu-command.js";
import type { AgentContext, AgentEvent, CatalogContext, InternalEvent, ModelCallEvent } from "./openclaw-api.js";
import type { PluginApi, ProviderConfig } from "./openclaw-api.js";
import { catalogueOf, modelOf, PROVIDER } from "./provider.js";
import { setupMethod } from "./setup.js";
import { MAX_SESSIONS, type SessionEvent, Sessions, type Trigger } from "./sessions.js";
import { type Stream, waitingStream } from "./waiting.js";
import { defaultModel, KEY_VARIABLE, keyReader, modelName, modelNamed, type Settings, settingsOf } from "./settings.js";

/** Reasons of `session_end` after which the conversation is over; the gateway's own end is left to the TTL. */
const OVER = new Set(["new", "reset", "idle", "daily", "deleted"]);
const READY_LIMIT_MS = 1000;
/** Labels that a header can carry. */
const IN_HEADERS = /^[ -~]+$/;
const RUNTIME = Symbol.for("hotseat.openclaw-plugin.1");

/** Outlives a hot reload of the plugin, so that a reload loses no conversation. */
interface Runtime {
  readonly sessions: Sessions;
}

export function bind(api: PluginApi): void {
  new Binding(api).register();
}

class Binding {
  readonly #settings: Settings;
  readonly #client: BrokerClient;
  readonly #sessions: Sessions;
  /** Session key, and as the broker takes it, by session id. */
  readonly #keys = new Map<string, { session: string; label: string }>();
  #timer: NodeJS.Timeout | undefined;

  constructor(private readonly api: PluginApi) {
    this.#settings = settingsOf(api.pluginConfig);
    const { brokerUrl: url, apiKeyFile } = this.#settings;
    const apiKey = keyReader(apiKeyFile, api.runtime && (() => this.#providerKey()));
    this.#client = new BrokerClient({ url, apiKey, log: api.logger });
    const shared = globalThis as { [RUNTIME]?: Runtime };
    this.#sessions = (shared[RUNTIME] ??= { sessions: new Sessions(this.#settings) }).sessions;
    this.#sessions.rules = this.#settings;
  }

  register(): void {
    const { api } = this;
    api.on("message_received", (event, ctx) => this.#message(event.sessionKey ?? ctx.sessionKey, event.content));
    api.on("before_model_resolve", (_event, ctx) => this.#runStarted(ctx));
    api.on("model_call_started", (event, ctx) => this.#callStarted(event, ctx));
    api.on("model_call_ended", (event, ctx) => this.#callEnded(event, ctx));
    api.on("subagent_spawned", (event, ctx) => this.#spawned(event, ctx.requesterSessionKey));
    api.on("subagent_ended", (event) => this.#tell({ type: "ended", session: event.targetSessionKey }));
    api.on("session_end", (event, ctx) => this.#sessionEnded(event.sessionKey ?? ctx.sessionKey, event.reason));
    api.on("before_agent_reply", (_event, ctx) => this.#mayRun(ctx), { eligibleTriggers: ["cron", "heartbeat"] });
    api.registerHook(["session:patch", "command:stop"], (event) => this.#internal(event), {
      name: "hotseat-sessions",
      description: "Follows /model and /stop",
    });
    api.agent.events.registerAgentEventSubscription({
      id: "hotseat-runs",
      description: "Follows when runs start and end",
      streams: ["lifecycle"],
      handle: (event) => this.#lifecycle(event),
    });
    api.registerService({ id: "hotseat", start: () => this.#start(), stop: () => this.#stop() });
    this.#registerProvider();
    this.#registerCommand();
  }

  #registerProvider(): void {
    this.api.registerProvider({
      id: PROVIDER,
      label: "Hotseat",
      envVars: [KEY_VARIABLE],
      auth: [setupMethod()],
      catalog: {
        order: "late",
        run: (ctx) => this.#catalogue(ctx),
      },
      prepareDynamicModel: ({ modelId }) => modelOf(this.#client, this.#settings, modelId),
      wrapStreamFn: ({ streamFn }) => this.#waiting(streamFn),
      resolveTransportTurnState: ({ sessionId }) => this.#headersOf(sessionId),
    });
  }

  /** Asked for with the key that the calls will have. */
  #catalogue(ctx: CatalogContext): Promise<{ provider: ProviderConfig } | undefined> {
    const { apiKey, discoveryApiKey: key } = ctx.resolveProviderApiKey(PROVIDER);
    const { brokerUrl: url } = this.#settings;
    const own = key ? new BrokerClient({ url, apiKey: () => key, log: this.api.logger }) : undefined;
    return catalogueOf(own ?? this.#client, this.#settings, apiKey);
  }

  async #providerKey(): Promise<string | undefined> {
    return (await this.api.runtime?.modelAuth.resolveApiKeyForProvider({ provider: PROVIDER }))?.apiKey;
  }

  /** `Same`: OpenClaw's stream function and what wraps it take and give the same. */
  #waiting<Same>(streamFn: Same | undefined): Same | undefined {
    if (streamFn === undefined || !this.#settings.waitForLease) return undefined;
    const callerOf = (sessionId: string | undefined, id: string) => {
      const sessionKey = this.#keys.get(sessionId ?? "")?.label;
      const model = modelName(this.#settings, PROVIDER, id);
      return sessionKey === undefined || model === undefined ? undefined : { sessionKey, model };
    };
    return waitingStream(this.#client, streamFn as Stream, callerOf) as Same;
  }

  /**
   * Names the conversation in a call to our own provider, and its class where nobody waits for it. Other calls, and keys
   * not in ASCII, are known by their spans.
   */
  #headersOf(sessionId: string | undefined): { headers: Record<string, string> } | undefined {
    const key = sessionId === undefined ? undefined : this.#keys.get(sessionId);
    if (key === undefined) return undefined;
    const headers: Record<string, string> = {};
    if (IN_HEADERS.test(key.label)) headers["x-hotseat-session"] = key.label;
    if (this.#sessions.isBackground(key.session)) headers["x-hotseat-priority"] = "background";
    return Object.keys(headers).length > 0 ? { headers } : undefined;
  }

  #remember({ sessionId, sessionKey }: { sessionId?: string; sessionKey?: string }): void {
    if (sessionId === undefined || sessionKey === undefined) return;
    this.#keys.delete(sessionId);
    this.#keys.set(sessionId, { session: sessionKey, label: label(sessionKey) });
    if (this.#keys.size > MAX_SESSIONS) this.#keys.delete(this.#keys.keys().next().value as string);
  }

  #registerCommand(): void {
    const desk = { client: this.#client, take: (event: SessionEvent) => this.#sessions.take(event, nowS()) };
    this.api.registerCommand({
      name: "gpu",
      description: "GPU models: status, warm <model> [20m], release",
      acceptsArgs: true,
      handler: async ({ sessionKey, sessionId, args }) => ({
        text: await gpuCommand(desk, { sessionKey, sessionId }, args ?? ""),
      }),
    });
  }

  #start(): void {
    const everyMs = Math.max(1000, (this.#settings.ttlS * 1000) / 3);
    this.#timer = setInterval(() => this.#tell({ type: "tick" }), everyMs);
    this.#timer.unref();
  }

  /** The plugin is replaced or the gateway stops: leases stay, and lapse if nobody prolongs them. */
  #stop(): void {
    clearInterval(this.#timer);
  }

  #tell(event: SessionEvent): void {
    this.#client.publish(this.#sessions.take(event, nowS()));
  }

  #message(session: string | undefined, content: string): void {
    if (session === undefined) return;
    if (/^\/stop\s*$/i.test(content)) return this.#tell({ type: "ended", session });
    if (content.startsWith("/")) return this.#tell({ type: "seen", session });
    this.#tell({ type: "messageReceived", session, model: this.#firstModel(session) });
  }

  /** Of a session that has not called any model yet. */
  #firstModel(session: string): string | undefined {
    return modelNamed(this.#settings, defaultModel(this.api.config, session));
  }

  #runStarted(ctx: AgentContext): void {
    const { runId: run, sessionKey: session } = ctx;
    this.#remember(ctx);
    const model = modelName(this.#settings, ctx.modelProviderId, ctx.modelId);
    if (run === undefined || session === undefined || model === undefined) return;
    this.#tell({ type: "runStarted", session, run, model, trigger: triggerOf(ctx) ?? "user" });
  }

  #callStarted(event: ModelCallEvent, ctx: AgentContext): void {
    const session = event.sessionKey ?? ctx.sessionKey;
    this.#remember(ctx);
    const model = modelName(this.#settings, event.provider, event.model);
    if (session === undefined || model === undefined) return;
    const { runId: run, callId: call } = event;
    const trigger = triggerOf(ctx);
    // Of a run's call to our own provider the header tells the session, and telling it twice costs a request.
    const named = event.provider === PROVIDER && trigger !== undefined && IN_HEADERS.test(label(session));
    const span = named ? undefined : ctx.trace?.spanId;
    this.#tell({ type: "callStarted", session, run, call, model, trigger, span });
  }

  #callEnded(event: ModelCallEvent, ctx: AgentContext): void {
    const session = event.sessionKey ?? ctx.sessionKey;
    if (session !== undefined) this.#tell({ type: "callEnded", session, run: event.runId, call: event.callId });
  }

  #spawned(event: { childSessionKey: string; resolvedModel?: string; resolvedProvider?: string }, parent?: string): void {
    const { resolvedModel, resolvedProvider } = event;
    const model = modelNamed(this.#settings, resolvedModel) ?? modelName(this.#settings, resolvedProvider, resolvedModel);
    this.#tell({ type: "spawned", session: event.childSessionKey, parent, model });
  }

  #sessionEnded(session: string | undefined, reason: string | undefined): void {
    if (session !== undefined && OVER.has(reason ?? "")) this.#tell({ type: "ended", session });
  }

  #internal(event: InternalEvent): void {
    const { sessionKey: session } = event;
    if (event.type === "command") return this.#tell({ type: "ended", session });
    const patch = event.context["patch"] as { model?: unknown } | undefined;
    if (typeof patch?.model !== "string") return;
    this.#tell({ type: "modelChanged", session, model: modelNamed(this.#settings, patch.model) });
  }

  #lifecycle(event: AgentEvent): void {
    const { runId: run, sessionKey: session, data } = event;
    if (session === undefined || (data["phase"] !== "end" && data["phase"] !== "error")) return;
    const aborted = data["aborted"] === true || data["status"] === "cancelled" || data["stopReason"] === "aborted";
    this.#tell({ type: "runEnded", session, run, aborted });
  }

  /** May a heartbeat or cron job run? `undefined`: yes; handled: it is skipped, in silence. */
  async #mayRun(ctx: AgentContext): Promise<{ handled: boolean; reason?: string } | undefined> {
    const trigger = triggerOf(ctx);
    if ((trigger !== "cron" && trigger !== "heartbeat") || this.#settings[trigger] === "load") return undefined;
    const session = ctx.sessionKey ?? "";
    const own = modelName(this.#settings, ctx.modelProviderId, ctx.modelId);
    const model = own ?? this.#sessions.modelOf(session) ?? this.#firstModel(session);
    if (model === undefined || (await this.#isLoaded(model))) return undefined;
    this.api.logger.info(`hotseat: ${trigger} skipped, ${model} is not loaded`);
    return { handled: true, reason: "hotseat: model not loaded" };
  }

  async #isLoaded(model: string): Promise<boolean> {
    try {
      const { models } = await this.#client.get<{ models: ModelInfo[] }>("/models", READY_LIMIT_MS);
      const found = models.find(({ name }) => name === model);
      return found === undefined || found.state === "ready";
    } catch {
      return true; // the broker is away: the run meets that by itself
    }
  }
}

function triggerOf(ctx: AgentContext): Trigger | undefined {
  const { trigger } = ctx;
  if (trigger === undefined) return undefined;
  return trigger === "cron" || trigger === "heartbeat" ? trigger : "user";
}

function nowS(): number {
  return performance.now() / 1000;
}
