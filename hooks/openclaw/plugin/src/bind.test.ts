/** The plugin on recorded hook payloads, beside a broker of our own on a real socket. */

import { createServer, type IncomingMessage, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";

import { bind } from "./bind.js";
import { BrokerClient, label, MAX_WAITING } from "./client.js";
import { gpuCommand, secondsOf } from "./gpu-command.js";
import entry from "./index.js";
import type { AgentEvent, CommandContext, InternalEvent, PluginApi } from "./openclaw-api.js";

const S = "agent:main:main";
const SECRET = "xylophone-4711";
/** Of a machine that has other things to do. */
const PATIENCE = { timeout: 15_000 };
const SPAN = "00f067aa0ba902b7";

interface Recorded {
  method: string;
  path: string;
  raw: string;
  body: Record<string, unknown>;
}

class Broker {
  readonly seen: Recorded[] = [];
  status = 202;
  state = "ready";
  readonly #server: Server;

  constructor() {
    this.#server = createServer((request, response) => {
      void textOf(request).then((text) => {
        const { method = "", url: path = "" } = request;
        const raw = `${method} ${path} ${JSON.stringify(request.rawHeaders)} ${text}`;
        this.seen.push({ method, path, raw, body: text === "" ? {} : (JSON.parse(text) as Record<string, unknown>) });
        response.writeHead(method === "GET" ? 200 : this.status, { "content-type": "application/json" });
        response.end(method === "GET" ? JSON.stringify(this.#answer(path)) : '{"detail": "it says no"}');
      });
    });
  }

  #answer(path: string): object {
    const counts = { holders: 1, warm: 2, waiters: 0 };
    if (path === "/models") return { models: [{ name: "big", state: this.state, ...counts }] };
    const queued = { sessionKey: S, model: "big", intent: "use", state: "queued", position: 3, etaSeconds: 120 };
    return { leases: [queued, { ...queued, sessionKey: "agent:other:main" }] };
  }

  async listen(): Promise<string> {
    await new Promise<void>((done) => this.#server.listen(0, "127.0.0.1", done));
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  close(): void {
    this.#server.closeAllConnections();
    this.#server.close();
  }

  bodies(path = "/activity"): Record<string, unknown>[] {
    return this.seen.filter((each) => each.path === path).map((each) => each.body);
  }
}

async function textOf(request: IncomingMessage): Promise<string> {
  let text = "";
  for await (const part of request) text += String(part);
  return text;
}

/** What the plugin registers, called as OpenClaw calls it. */
class Host {
  readonly hooks = new Map<string, (event: object, ctx: object) => unknown>();
  readonly lines: string[] = [];
  internal: (event: InternalEvent) => unknown = () => undefined;
  lifecycle: (event: AgentEvent) => void = () => undefined;
  command: (ctx: CommandContext) => Promise<{ text: string }> = () => Promise.resolve({ text: "" });
  headers: (sessionId: string) => Record<string, string> | undefined = () => undefined;
  service: { start: () => void; stop?: () => Promise<void> | void } = { start: () => undefined };

  api(brokerUrl: string): PluginApi {
    return {
      config: { agents: { defaults: { model: { primary: "hotseat/big" } } } },
      pluginConfig: { brokerUrl, models: { "local/gemma": "big" } },
      logger: { info: (line) => this.lines.push(line), warn: (line) => this.lines.push(line) },
      on: (name, handler) => this.hooks.set(name, handler as (event: object, ctx: object) => unknown),
      registerHook: (_events, handler) => (this.internal = handler),
      registerService: (service) => (this.service = service),
      registerProvider: (provider) => (this.headers = (sessionId) => provider.resolveTransportTurnState({ sessionId })?.headers),
      registerCommand: (command) => (this.command = command.handler),
      agent: { events: { registerAgentEventSubscription: ({ handle }) => (this.lifecycle = handle) } },
    };
  }

  fire(name: string, event: object, ctx: object = {}): unknown {
    return this.hooks.get(name)?.({ ...event, ...PROSE }, { ...ctx, ...PROSE });
  }
}

/** What real payloads carry besides, and nobody may pass on. */
const PROSE = {
  prompt: SECRET,
  messages: [{ role: "user", content: SECRET }],
  content: SECRET,
  cleanedBody: SECRET,
  senderId: `+49-${SECRET}`,
  workspaceDir: `/home/${SECRET}`,
  label: SECRET,
  sessionFile: SECRET,
};
const CTX = { runId: "r1", sessionKey: S, sessionId: "s1", modelProviderId: "hotseat", modelId: "big", trigger: "user" };
const CALL = { runId: "r1", callId: "r1:model:1", sessionKey: S, provider: "hotseat", model: "big" };
const TRACE = { ...CTX, trace: { traceId: "4bf92f3577b34da6a3ce929d0e0e4736", spanId: SPAN } };

let broker: Broker;
let host: Host;
let url: string;

vi.setConfig({ testTimeout: 20_000, restoreMocks: true });
beforeEach(async () => {
  // A machine that has other things to do may stop for longer than the broker is waited for.
  vi.spyOn(AbortSignal, "timeout").mockImplementation(() => new AbortController().signal);
  delete (globalThis as Record<symbol, unknown>)[Symbol.for("hotseat.openclaw-plugin.1")];
  broker = new Broker();
  url = await broker.listen();
  host = new Host();
  bind(host.api(url));
});
afterEach(() => broker.close());

const sent = (count: number) => vi.waitFor(() => expect(broker.bodies()).toHaveLength(count), PATIENCE);
const end = (data: object) => host.lifecycle({ runId: "r1", stream: "lifecycle", sessionKey: S, data: { ...data, text: SECRET } });

describe("a turn", () => {
  it("warms when the message comes, and nothing of its text leaves the gateway", async () => {
    host.fire("message_received", { sessionKey: S });
    host.fire("before_model_resolve", {}, CTX);
    host.fire("model_call_started", CALL, TRACE);
    host.fire("model_call_ended", CALL, TRACE);
    host.fire("subagent_spawned", { childSessionKey: `${S}:1`, resolvedModel: "local/gemma" }, { requesterSessionKey: S });
    host.internal({ type: "session", action: "patch", sessionKey: S, context: { ...PROSE, patch: { model: "hotseat/x" } } });
    end({ phase: "end" });
    host.fire("session_end", { sessionId: "s1", sessionKey: S, reason: "new" });
    await sent(5);
    expect(broker.bodies("/sessions/span"), "its header says it").toEqual([]);
    expect(broker.bodies().map(({ type, sessionKey, model }) => [type, sessionKey, model])).toEqual([
      ["activity", S, "big"],
      ["activity", `${S}:1`, "big"],
      ["release", S, "big"],
      ["activity", S, "x"],
      ["release", S, "x"],
    ]);
    expect(broker.seen.map(({ raw }) => raw).join("\n")).not.toContain(SECRET);
    expect(host.lines.join("\n")).not.toContain(SECRET);
  });

  it("names its conversation in the headers of its calls", () => {
    expect(host.headers("s1")).toBeUndefined();
    host.fire("before_model_resolve", {}, CTX);
    host.fire("before_model_resolve", {}, { ...CTX, sessionId: "s2", sessionKey: "agent:main:ünï" });
    expect([host.headers("s1"), host.headers("s2")]).toEqual([{ "x-hotseat-session": S }, undefined]);
  });

  it("registers the spans of calls that carry no header of ours", async () => {
    const umlaut = { ...TRACE, sessionKey: "agent:main:ünï" };
    const compaction = { ...TRACE, trigger: undefined };
    host.fire("model_call_started", { ...CALL, sessionKey: umlaut.sessionKey }, umlaut);
    host.fire("model_call_started", { ...CALL, provider: "local", model: "gemma" }, TRACE);
    host.fire("model_call_started", CALL, compaction);
    await vi.waitFor(() => expect(broker.bodies("/sessions/span")).toHaveLength(3), PATIENCE);
    expect(broker.bodies("/sessions/span").map(({ sessionKey, model }) => [sessionKey, model])).toEqual([
      [umlaut.sessionKey, "big"],
      [S, "big"], // by the settings' models
      [S, "big"],
    ]);
  });

  it("says so where nobody waits for its calls", () => {
    host.fire("before_model_resolve", {}, { ...CTX, runId: "beat", trigger: "heartbeat" });
    expect(host.headers("s1")).toEqual({ "x-hotseat-session": S, "x-hotseat-priority": "background" });
    host.fire("before_model_resolve", {}, CTX);
    expect(host.headers("s1")).toEqual({ "x-hotseat-session": S });
  });

  it("numbers the messages of a session upwards", async () => {
    host.fire("message_received", { sessionKey: S });
    host.fire("session_end", { sessionId: "s1", sessionKey: S, reason: "reset" });
    await sent(2);
    const [first, second] = broker.bodies().map(({ seq }) => seq as number);
    expect(second).toBeGreaterThan(first as number);
  });

  it("that is stopped gives the model back", async () => {
    host.fire("before_model_resolve", {}, CTX);
    end({ phase: "end", aborted: true });
    end({ phase: "error" });
    await sent(2);
    expect(broker.bodies()[1]).toMatchObject({ type: "release", sessionKey: S, model: "big" });
  });

  it("of another provider is none of our business", async () => {
    host.fire("before_model_resolve", {}, { ...CTX, modelProviderId: "openai" });
    host.fire("model_call_started", { ...CALL, provider: "openai" }, TRACE);
    host.fire("message_received", { sessionKey: "other" });
    await sent(1);
    expect(broker.seen).toHaveLength(1);
  });

  it("goes on after a hot reload, and a gateway's end releases nothing", async () => {
    host.fire("message_received", { sessionKey: S });
    await sent(1);
    host.fire("session_end", { sessionId: "s1", sessionKey: S, reason: "shutdown" });
    void host.service.stop?.();
    host = new Host();
    bind(host.api(url));
    host.fire("session_end", { sessionId: "s1", sessionKey: S, reason: "deleted" });
    await sent(2);
    expect(broker.bodies()[1]).toMatchObject({ type: "release", model: "big" });
  });
});

describe("a heartbeat or cron job", () => {
  it("runs where its model is loaded and is skipped, in silence, where it is not", async () => {
    const ask = (trigger: string) => host.fire("before_agent_reply", {}, { sessionKey: S, trigger });
    expect(await ask("heartbeat")).toBeUndefined();
    broker.state = "absent";
    expect(await ask("heartbeat")).toMatchObject({ handled: true });
    expect(await ask("cron")).toMatchObject({ handled: true });
    expect(await ask("user")).toBeUndefined();
    expect(broker.bodies()).toEqual([]);
  });
});

describe("a broker that is away", () => {
  it("costs a turn nothing, is spoken of once, and is found again", async () => {
    broker.status = 503;
    const startedMs = performance.now();
    for (let number = 0; number < 1000; number += 1) host.fire("message_received", { sessionKey: `s${number}` });
    expect(performance.now() - startedMs).toBeLessThan(5000);
    await vi.waitFor(() => expect(host.lines).toHaveLength(1), PATIENCE);
    expect(host.lines[0]).toContain("nothing is kept warm");
  });

  it("leaves a bounded line, and the newest messages in it", async () => {
    const answers: (() => void)[] = [];
    const slow = () => new Promise<Response>((done) => answers.push(() => done(new Response("", { status: 202 }))));
    const log = { info: () => undefined, warn: () => undefined };
    const client = new BrokerClient({ url, apiKey: () => "", log, fetch: slow });
    for (let number = 0; number < MAX_WAITING + 10; number += 1) {
      client.publish([{ type: "release", session: `s${number}`, model: "big" }]);
    }
    expect([client.waiting, client.dropped]).toEqual([MAX_WAITING, 10]);
  });

  it("or hangs is given up", async () => {
    vi.mocked(AbortSignal.timeout).mockImplementation(() => AbortSignal.abort(new DOMException("late", "TimeoutError")));
    host.fire("message_received", { sessionKey: S });
    await vi.waitFor(() => expect(host.lines[0]).toContain("it took too long"), PATIENCE);
  });

  it("does not stop a command: it says so", async () => {
    broker.close();
    expect((await host.command({ sessionKey: S, args: "" })).text).toContain("no answer from");
  });
});

describe("/gpu", () => {
  const say = async (args: string) => (await host.command({ sessionKey: S, sessionId: "s1", args })).text;

  it("says what is loaded and what my place is", async () => {
    expect(await say("")).toBe("big: ready, 1 in use, 2 warm\nYou: place 3 for big, about 2 min");
  });

  it("keeps a model warm for as long as asked, and gives it back", async () => {
    expect(await say("warm big 90m")).toBe("big is kept warm for 1.5 h.");
    expect(broker.bodies()[0]).toMatchObject({ type: "activity", sessionKey: S, model: "big", ttlSeconds: 5400 });
    expect(await say("release")).toBe("Given back: big.");
    expect(await say("release")).toBe("Nothing is kept warm here.");
  });

  it("explains what it does not understand", async () => {
    expect(await say("dance")).toContain("Usage");
    expect(await say("warm nonesuch")).toBe('No model "nonesuch". There are: big');
    expect(await say("warm big soon")).toContain("is no time");
    broker.status = 409;
    expect(await say("warm big")).toBe("Hotseat: the broker says: it says no");
    const desk = { client: new BrokerClient({ url, apiKey: () => "", log: console }), take: () => [] };
    expect(await gpuCommand(desk, { sessionKey: undefined, sessionId: undefined }, "release")).toContain("conversation");
  });

  it("reads times as people write them", () => {
    expect(["90s", "20m", "2h", "5", "0m", "25h", "x"].map(secondsOf)).toEqual([90, 1200, 7200, 300, undefined, undefined, undefined]);
  });
});

it("session keys become labels the broker takes", () => {
  expect(label("agent:{main}\n")).toBe("agent:%7Bmain%7D%0A");
  expect(label("x".repeat(300))).toHaveLength(256);
});

it("the entry is what `openclaw plugins validate` wants, and registers without side effects", () => {
  expect(entry.id).toBe("hotseat");
  entry.register(host.api(url));
  expect(broker.seen).toEqual([]);
});
