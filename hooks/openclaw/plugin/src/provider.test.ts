import { afterEach, expect, it, vi } from "vitest";

import { BrokerClient } from "./client.js";
import { catalogueOf, modelOf, PATIENCE_S, providerOf } from "./provider.js";
import { KEY_KEPT_MS, KEY_VARIABLE, keyReader, settingsOf } from "./settings.js";

const LOG = { info: () => undefined, warn: () => undefined };
const SETTINGS = settingsOf({ brokerUrl: "http://127.0.0.1:4687/", contextTokens: 4096 });

function clientOf(answer: () => Promise<Response>): BrokerClient {
  return new BrokerClient({ url: SETTINGS.brokerUrl, apiKey: () => "", log: LOG, fetch: answer });
}

it("the catalogue is what the broker lists, patient and with affinity headers", async () => {
  const client = clientOf(() => Promise.resolve(Response.json({ data: [{ id: "big" }, { id: "org/small:q4" }] })));
  const { provider } = (await catalogueOf(client, SETTINGS, "HOTSEAT_API_KEY"))!;
  expect(provider).toMatchObject({ baseUrl: "http://127.0.0.1:4687/v1", apiKey: "HOTSEAT_API_KEY", timeoutSeconds: PATIENCE_S });
  expect(provider.models.map(({ id, maxTokens, compat }) => [id, maxTokens, compat])).toEqual([
    ["big", 2048, { sendSessionAffinityHeaders: true }],
    ["org/small:q4", 2048, { sendSessionAffinityHeaders: true }],
  ]);
});

it("each model has its own context and pictures, and what cannot chat is not listed", () => {
  const seen = { input_modalities: ["text", "image"], output_modalities: ["text"] };
  const { models } = providerOf(SETTINGS, [
    { id: "eyes", context_length: 131_072, architecture: seen },
    { id: "short", context_length: 1024, architecture: { input_modalities: ["text"], output_modalities: ["text"] } },
    { id: "vectors", architecture: { input_modalities: ["text"], output_modalities: ["embeddings"] } },
    { id: "elsewhere", architecture: seen, supported_endpoints: ["/v1/messages"] },
    { id: "unknown", supported_endpoints: ["/v1/chat/completions", "/v1/responses"] },
  ]);
  expect(models.map(({ id, input, contextWindow, maxTokens }) => [id, input, contextWindow, maxTokens])).toEqual([
    ["eyes", ["text", "image"], 131_072, 8192],
    ["short", ["text"], 1024, 512],
    ["unknown", ["text"], 4096, 2048],
  ]);
});

it("without a broker or a key there is none, so that OpenClaw keeps what it knew", async () => {
  const away = clientOf(() => Promise.reject(new Error("refused")));
  expect(await catalogueOf(away, SETTINGS, "HOTSEAT_API_KEY")).toBeUndefined();
  expect(await catalogueOf(away, SETTINGS, undefined)).toBeUndefined();
});

it("a model that OpenClaw has in no catalogue is asked for once more, and taken for granted while the broker is away", async () => {
  const there = clientOf(() => Promise.resolve(Response.json({ data: [{ id: "big", context_length: 16_384 }] })));
  const away = clientOf(() => Promise.reject(new Error("refused")));
  const known = { id: "big", provider: "hotseat", api: "openai-completions", baseUrl: "http://127.0.0.1:4687/v1" };
  expect(await modelOf(there, SETTINGS, "big")).toMatchObject({ ...known, contextWindow: 16_384, requestTimeoutMs: 1_800_000 });
  expect(await modelOf(there, SETTINGS, "other")).toBeUndefined();
  expect(await modelOf(away, SETTINGS, "big")).toMatchObject({ ...known, contextWindow: 4096 });
  expect(await modelOf(away, { ...SETTINGS, brokerUrl: "http://gpu-box:4687" }, "big")).toBeUndefined();
});

afterEach(() => vi.unstubAllEnvs());

it("without a file of its own the plugin has the provider's key, whatever it looks like", async () => {
  const keyOf = async (value: string | undefined, path = "", provider?: () => Promise<string | undefined>) => {
    vi.stubEnv(KEY_VARIABLE, value);
    return await keyReader(path, provider)();
  };
  expect(await keyOf("hsk_1")).toBe("hsk_1");
  expect(await keyOf("sk-imported\n")).toBe("sk-imported");
  expect(await keyOf(undefined)).toBe("");
  expect(await keyOf("hsk_1", "/nonexistent")).toBe("");
  expect(await keyOf("hsk_1", "", () => Promise.resolve("hsk_login"))).toBe("hsk_login");
  expect(await keyOf("hsk_1", "", () => Promise.reject(new Error("no profile")))).toBe("hsk_1");
  expect(await keyOf("hsk_1", "", () => Promise.resolve(undefined))).toBe("");
});

it("the provider's key is looked up again after a while, not for each message", async () => {
  let asked = 0;
  const read = keyReader("", () => Promise.resolve(`hsk_${(asked += 1)}`));
  const now = vi.spyOn(performance, "now").mockReturnValue(0);
  expect([await read(), await read()]).toEqual(["hsk_1", "hsk_1"]);
  now.mockReturnValue(KEY_KEPT_MS);
  expect(await read()).toBe("hsk_2");
  now.mockRestore();
});

it("names that lead to the gateway's own machine need OpenClaw's leave", () => {
  const leave = (brokerUrl: string) => providerOf(settingsOf({ brokerUrl }), []).request;
  expect(leave("http://localhost:4687")).toEqual({ allowPrivateNetwork: true });
  expect(["http://10.0.0.5:1", "http://[::1]:1", "http://gpu.local:1", "http://1e.example:1"].map(leave)).toEqual([
    undefined,
    undefined,
    undefined,
    { allowPrivateNetwork: true },
  ]);
});
