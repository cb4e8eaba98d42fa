/**
 * What this plugin uses of OpenClaw's plugin API, written down here so that neither building nor testing it needs the
 * 650 MB package. `make test-openclaw` compiles these types against those of the real one.
 */

export interface AgentContext {
  runId?: string;
  agentId?: string;
  sessionKey?: string;
  sessionId?: string;
  modelProviderId?: string;
  modelId?: string;
  trigger?: string;
  trace?: { traceId: string; spanId?: string };
}

export interface ModelCallEvent {
  runId: string;
  callId: string;
  sessionKey?: string;
  sessionId?: string;
  provider: string;
  model: string;
}

export interface Hooks {
  message_received: (event: { content: string; sessionKey?: string }, ctx: { sessionKey?: string }) => void;
  before_model_resolve: (event: object, ctx: AgentContext) => void;
  before_agent_reply: (
    event: { cleanedBody: string },
    ctx: AgentContext,
  ) => Promise<{ handled: boolean; reason?: string } | undefined>;
  model_call_started: (event: ModelCallEvent, ctx: AgentContext) => void;
  model_call_ended: (event: ModelCallEvent, ctx: AgentContext) => void;
  session_end: (event: { sessionId: string; sessionKey?: string; reason?: string }, ctx: { sessionKey?: string }) => void;
  subagent_spawned: (
    event: { childSessionKey: string; resolvedModel?: string; resolvedProvider?: string },
    ctx: { requesterSessionKey?: string },
  ) => void;
  subagent_ended: (event: { targetSessionKey: string; targetKind: string }, ctx: object) => void;
}

export interface AgentEvent {
  runId: string;
  stream: string;
  data: Record<string, unknown>;
  sessionKey?: string;
}

export interface InternalEvent {
  type: string;
  action: string;
  sessionKey: string;
  context: Record<string, unknown>;
}

export interface CommandContext {
  sessionKey?: string;
  sessionId?: string;
  args?: string;
}

export interface Logger {
  info: (message: string) => void;
  warn: (message: string) => void;
}

export interface ModelEntry {
  id: string;
  name: string;
  reasoning: boolean;
  input: ("text" | "image")[];
  contextWindow: number;
  maxTokens: number;
  cost: { input: number; output: number; cacheRead: number; cacheWrite: number };
  compat: { sendSessionAffinityHeaders: boolean };
}

/** A model resolved for one run, without a catalogue. */
export interface RuntimeModel extends ModelEntry {
  provider: string;
  api: "openai-completions";
  baseUrl: string;
  requestTimeoutMs: number;
}

export interface CatalogContext {
  /** `apiKey` may name where the key is; `discoveryApiKey` is the key. */
  resolveProviderApiKey: (providerId?: string) => { apiKey: string | undefined; discoveryApiKey?: string };
}

export interface Prompter {
  note: (message: string, title?: string) => Promise<void>;
  text: (asked: {
    message: string;
    initialValue?: string;
    validate?: (value: string) => string | undefined;
    sensitive?: boolean;
  }) => Promise<string>;
  confirm: (asked: { message: string; initialValue?: boolean }) => Promise<boolean>;
  select: <T>(asked: { message: string; options: { value: T; label: string; hint?: string }[] }) => Promise<T>;
}

export interface SetupContext {
  config: object;
  env?: NodeJS.ProcessEnv;
  /** Only the connection is wanted, no model. */
  credentialOnly?: boolean;
  prompter: Prompter;
  opts?: Record<string, unknown>;
}

export interface SetupResult {
  profiles: { profileId: string; credential: { type: "api_key"; provider: string; key: string } }[];
  configPatch?: object;
  defaultModel?: string;
  notes?: string[];
}

export interface UnattendedContext {
  config: object;
  opts: Record<string, unknown>;
  runtime: { log: (message: string) => void; error: (message: string) => void; exit: (code: number) => void };
  agentDir?: string;
  resolveApiKey: (asked: {
    provider: string;
    flagValue?: string;
    flagName: `--${string}`;
    envVar: string;
    envVarName?: string;
    required?: boolean;
  }) => Promise<{ key: string } | null>;
}

export interface SetupMethod {
  id: string;
  label: string;
  hint: string;
  kind: "custom";
  run: (ctx: SetupContext) => Promise<SetupResult>;
  runNonInteractive: (ctx: UnattendedContext) => Promise<object | null>;
}

export interface ProviderConfig {
  apiKey?: string;
  baseUrl: string;
  api: "openai-completions";
  timeoutSeconds: number;
  request?: { allowPrivateNetwork: boolean };
  models: ModelEntry[];
}

export interface PluginApi {
  config: object;
  pluginConfig?: Record<string, unknown>;
  logger: Logger;
  on: <K extends keyof Hooks>(name: K, handler: Hooks[K], options?: { eligibleTriggers?: ("cron" | "heartbeat")[] }) => void;
  registerHook: (
    events: string | string[],
    handler: (event: InternalEvent) => Promise<void> | void,
    options?: { name?: string; description?: string },
  ) => void;
  registerService: (service: { id: string; start: () => void; stop?: () => Promise<void> | void }) => void;
  registerCommand: (command: {
    name: string;
    description: string;
    acceptsArgs?: boolean;
    handler: (ctx: CommandContext) => Promise<{ text: string }>;
  }) => void;
  registerProvider: (provider: {
    id: string;
    label: string;
    auth: SetupMethod[];
    envVars: string[];
    catalog: { order: "late"; run: (ctx: CatalogContext) => Promise<{ provider: ProviderConfig } | undefined> };
    prepareDynamicModel: (ctx: { modelId: string }) => Promise<RuntimeModel | undefined>;
    wrapStreamFn: <Stream extends (...words: never[]) => unknown>(ctx: { streamFn?: Stream }) => Stream | undefined;
    resolveTransportTurnState: (ctx: { sessionId?: string }) => { headers?: Record<string, string> } | undefined;
  }) => void;
  runtime?: {
    modelAuth: { resolveApiKeyForProvider: (params: { provider: string }) => Promise<{ apiKey?: string }> };
  };
  agent: {
    events: {
      registerAgentEventSubscription: (subscription: {
        id: string;
        description?: string;
        streams?: ("lifecycle")[];
        handle: (event: AgentEvent) => void;
      }) => void;
    };
  };
}
