import { afterEach, beforeEach, expect, it, vi } from "vitest";

import manifest from "../openclaw.plugin.json" with { type: "json" };
import type { SetupContext, UnattendedContext } from "./openclaw-api.js";
import { METHOD, NO_KEY, setupMethod, tried } from "./setup.js";
import { KEY_VARIABLE } from "./settings.js";

const MODELS = {
  data: [
    { id: "small", owned_by: "hotseat", context_length: 8192 },
    { id: "big", owned_by: "hotseat" },
    { id: "vectors", owned_by: "hotseat", architecture: { output_modalities: ["embeddings"] } },
  ],
};
const POOL = { models: [{ name: "small" }, { name: "big", isDefault: true }] };

/** A broker that knows one key, or takes anybody. */
function brokerOf({ key, list = MODELS }: { key?: string; list?: object } = {}): typeof fetch {
  return (address, request) => {
    const { origin, pathname } = new URL(address as string);
    if (origin !== "http://gpu:4687") return Promise.reject(new Error("connect ECONNREFUSED"));
    const sent = new Headers(request?.headers).get("authorization");
    if (key !== undefined && sent !== `Bearer ${key}`) return Promise.resolve(Response.json({}, { status: 401 }));
    if (key === undefined && sent !== null && pathname === "/models") {
      return Promise.resolve(Response.json({ detail: "the API key is not known here" }, { status: 401 }));
    }
    return Promise.resolve(Response.json(pathname === "/v1/models" ? list : POOL));
  };
}

/** Answers in turn, and remembers what was asked and said. */
function person(answers: unknown[], more: Partial<SetupContext> = {}): { ctx: SetupContext; heard: string[] } {
  const heard: string[] = [];
  const next = (asked: { message: string; initialValue?: unknown }): Promise<never> => {
    heard.push(asked.message);
    const answer = answers.shift();
    return Promise.resolve((answer === "as proposed" ? asked.initialValue : answer) as never);
  };
  const note = (message: string) => Promise.resolve(void heard.push(message));
  return { ctx: { config: {}, env: {}, prompter: { note, text: next, confirm: next, select: next }, ...more }, heard };
}

beforeEach(() => vi.stubEnv(KEY_VARIABLE, undefined));
afterEach(() => vi.unstubAllEnvs());

it("is what the manifest offers before the plugin is loaded", () => {
  expect(manifest.providerAuthChoices).toMatchObject([{ provider: "hotseat", method: METHOD }]);
});

it("asks for address, key, model and leave, and gives all that is to be written", async () => {
  const { ctx, heard } = person(["http://gpu:4687/v1/", "hsk_1", "small", true]);
  const result = await setupMethod({ fetch: brokerOf({ key: "hsk_1" }) }).run(ctx);
  expect(result).toMatchObject({
    profiles: [{ profileId: "hotseat:default", credential: { type: "api_key", provider: "hotseat", key: "hsk_1" } }],
    configPatch: {
      plugins: {
        entries: {
          hotseat: { enabled: true, hooks: { allowConversationAccess: true }, config: { brokerUrl: "http://gpu:4687" } },
        },
      },
    },
    defaultModel: "hotseat/small",
  });
  expect(heard).toHaveLength(4);
  expect(JSON.stringify(result.configPatch)).not.toContain("hsk_1");
});

it("a broker that is away or refuses the key is said, and asked again", async () => {
  const wrong = ["http://gone:1", "", true, "http://gpu:4687", "hsk_wrong", true];
  const { ctx, heard } = person([...wrong, "as proposed", "hsk_1", "big", false]);
  const result = await setupMethod({ fetch: brokerOf({ key: "hsk_1" }) }).run(ctx);
  expect(heard.filter((line) => /^(no answer|the broker)/.test(line))).toEqual([
    "no answer from http://gone:1: connect ECONNREFUSED; is the broker up, and is this its address?",
    "the broker at http://gpu:4687 does not know this key; `hotseat key new openclaw --scope lease` makes one",
  ]);
  expect(JSON.stringify(result.configPatch)).not.toContain("allowConversationAccess");
});

it("whoever gives up hears why, and nothing is written", async () => {
  const { ctx } = person(["http://gpu:4687", "hsk_wrong", false]);
  await expect(setupMethod({ fetch: brokerOf({ key: "hsk_1" }) }).run(ctx)).rejects.toThrow(
    "the broker at http://gpu:4687 does not know this key; `hotseat key new openclaw --scope lease` makes one",
  );
});

it("the key of the environment is proposed, an anonymous broker needs none", async () => {
  const env = { [KEY_VARIABLE]: "hsk_env", HOTSEAT_URL: "http://gpu:4687" };
  const known = person(["as proposed", "as proposed", "big", true], { env });
  const result = await setupMethod({ fetch: brokerOf({ key: "hsk_env" }) }).run(known.ctx);
  expect(result.profiles[0]?.credential.key).toBe("hsk_env");
  const nobody = person(["http://gpu:4687", "", "big", true]);
  const anonymous = await setupMethod({ fetch: brokerOf() }).run(nobody.ctx);
  expect(anonymous.profiles[0]?.credential.key).toBe(NO_KEY);
});

it("what is no broker, or has nothing to chat with, is told apart", async () => {
  const at = (list: object) => tried("http://gpu:4687", "", { fetch: brokerOf({ list }) });
  await expect(at({ data: [{ id: "m", owned_by: "llamacpp" }] })).rejects.toThrow("http://gpu:4687 is no Hotseat broker");
  await expect(at({})).rejects.toThrow("is no Hotseat broker");
  await expect(at({ data: [] })).rejects.toThrow("has no model for this key that can chat");
  await expect(tried("http://gpu:4687", "", { fetch: brokerOf({ key: "hsk_1" }) })).rejects.toThrow("wants a key");
  await expect(tried("http://gpu:4687", "hsk_x", { fetch: brokerOf() })).rejects.toThrow("does not know this key");
});

it("what would win over the new settings is named", async () => {
  const entry = { config: { apiKeyFile: "/etc/key" } };
  const config = { models: { providers: { hotseat: {} } }, plugins: { entries: { hotseat: entry } } };
  const { ctx } = person(["http://gpu:4687", "", "big", true], { config });
  const { notes } = await setupMethod({ fetch: brokerOf() }).run(ctx);
  expect(notes).toEqual([expect.stringContaining("wins over"), expect.stringContaining("apiKeyFile is set")]);
});

it("the pool's default model comes first", async () => {
  const { models } = await tried("http://gpu:4687", "", { fetch: brokerOf() });
  expect(models.map(({ id }) => id)).toEqual(["big", "small"]);
});

/** As `openclaw onboard --non-interactive` calls it. */
function nobody(opts: Record<string, unknown>, config: object = {}): { ctx: UnattendedContext; said: string[] } {
  const said: string[] = [];
  const say = (line: string) => void said.push(line);
  const runtime = { log: say, error: say, exit: (code: number) => say(`exit ${code}`) };
  const resolveApiKey = ({ flagValue }: { flagValue?: string }) =>
    Promise.resolve(flagValue === undefined ? null : { key: flagValue });
  return { ctx: { config, opts, runtime, agentDir: "/a", resolveApiKey }, said };
}

it("without a person flags say it, and what else is configured stays", async () => {
  const kept: unknown[] = [];
  const store = (...words: unknown[]) => Promise.resolve(void kept.push(words));
  const old = { plugins: { entries: { hotseat: { config: { cron: "load" } }, other: {} } }, gateway: { port: 1 } };
  const opts = { customBaseUrl: "http://gpu:4687", customApiKey: "hsk_1" };
  const { ctx } = nobody(opts, old);
  const method = setupMethod({ fetch: brokerOf({ key: "hsk_1" }), store });
  expect(await method.runNonInteractive(ctx)).toEqual({
    gateway: { port: 1 },
    plugins: {
      entries: {
        hotseat: {
          enabled: true,
          hooks: { allowConversationAccess: true },
          config: { cron: "load", brokerUrl: "http://gpu:4687" },
        },
        other: {},
      },
    },
    auth: { profiles: { "hotseat:default": { provider: "hotseat", mode: "api_key" } } },
    agents: { defaults: { model: { primary: "hotseat/big" } } },
  });
  expect(kept).toEqual([["hotseat:default", { type: "api_key", provider: "hotseat", key: "hsk_1" }, "/a"]]);
});

it("without a person a refusal ends it, and nothing is stored", async () => {
  const store = () => Promise.reject(new Error("must not be called"));
  const method = setupMethod({ fetch: brokerOf({ key: "hsk_1" }), store });
  const cases: [Record<string, unknown>, string][] = [
    [{ customBaseUrl: "http://gone:1" }, "is the broker up"],
    [{ customBaseUrl: "http://gpu:4687", customApiKey: "hsk_wrong" }, "does not know this key"],
    [{ customBaseUrl: "gpu:4687" }, "an address begins with http"],
    [{ customBaseUrl: "http://gpu:4687", customApiKey: "hsk_1", customModelId: "vectors" }, "has no model vectors"],
  ];
  for (const [opts, why] of cases) {
    const { ctx, said } = nobody(opts);
    expect(await method.runNonInteractive(ctx)).toBeNull();
    expect(said).toEqual([expect.stringContaining(why), "exit 1"]);
  }
});
