import { describe, expect, it, vi } from "vitest";

import { BrokerClient } from "./client.js";
import { HOLDER, type Stream, waitingStream } from "./waiting.js";

const LEASE = { leaseId: "L1", nonce: "n1", sessionKey: "s", model: "big", intent: "use" };
const LOG = { info: () => undefined, warn: () => undefined };

interface Asked {
  method: string;
  path: string;
  body: Record<string, unknown> | undefined;
}

/** A broker of scripted answers; without one left it never answers. */
function brokerOf(...answers: object[]) {
  const asked: Asked[] = [];
  const answer = (url: string | URL | Request, init?: RequestInit) => {
    const body = init?.body == null ? undefined : (JSON.parse(init.body as string) as Record<string, unknown>);
    asked.push({ method: init?.method ?? "", path: String(url).slice("http://b".length), body });
    const next = answers.shift();
    if (next !== undefined) return Promise.resolve(new Response(JSON.stringify(next), { status: 200 }));
    return new Promise<Response>((_done, fail) => {
      init?.signal?.addEventListener("abort", () => fail(new Error("aborted")));
    });
  };
  const client = new BrokerClient({ url: "http://b", apiKey: () => "", log: LOG, fetch: answer });
  return { client, asked };
}

const callerOf = (sessionId: string | undefined, model: string) =>
  sessionId === "known" ? { sessionKey: "s", model } : undefined;

describe("a call that waits for its turn", () => {
  it("is made when its turn has come, and gives the place back once it is on its way", async () => {
    const { client, asked } = brokerOf({ ...LEASE, state: "queued" }, { ...LEASE, state: "active" }, {});
    const inner = vi.fn<Stream>(() => asked.length);
    expect(await waitingStream(client, inner, callerOf)({ id: "big" }, {}, { sessionId: "known" })).toBe(2);
    expect(asked.map(({ method, path }) => `${method} ${path}`)).toEqual(["POST /lease", "GET /lease/L1?wait=20", "POST /release"]);
    expect(asked[0]?.body).toMatchObject({ sessionKey: "s", model: "big", intent: "use", holder: HOLDER, cancelOnDisconnect: true });
    expect(asked[2]?.body).toEqual({ leaseId: "L1", nonce: "n1" });
  });

  it("ends at once with the user's abort, and leaves the line", async () => {
    const { client, asked } = brokerOf({ ...LEASE, state: "queued" });
    const abort = new AbortController();
    const options = { sessionId: "known", signal: abort.signal };
    const inner = vi.fn<Stream>((_model, _context, given) => given?.signal?.aborted);
    const answer = waitingStream(client, inner, callerOf)({ id: "big" }, {}, options);
    await vi.waitFor(() => expect(asked).toHaveLength(2));
    expect(inner).not.toHaveBeenCalled();
    abort.abort();
    expect(await answer).toBe(true);
    expect(asked[2]).toMatchObject({ method: "POST", path: "/release" });
  });

  it("is made at once where the broker refuses, or where nobody knows whose it is", async () => {
    const { client, asked } = brokerOf();
    const refusing = new BrokerClient({
      url: "http://b",
      apiKey: () => "",
      log: LOG,
      fetch: () => Promise.resolve(new Response("{}", { status: 403 })),
    });
    const inner = vi.fn<Stream>(() => "made");
    expect(await waitingStream(refusing, inner, callerOf)({ id: "big" }, {}, { sessionId: "known" })).toBe("made");
    expect(await waitingStream(client, inner, callerOf)({ id: "big" }, {}, { sessionId: "other" })).toBe("made");
    expect(asked).toEqual([]);
  });
});
