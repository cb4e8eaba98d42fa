// The plain snippets of each package's own page, against a broker: node snippets.mjs BASE_URL NAME. Prints what was got, as JSON.
import Anthropic from "@anthropic-ai/sdk";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { ChatOpenAI } from "@langchain/openai";
import { jsonSchema, streamText, tool } from "ai";
import OpenAI from "openai";

const [base, name] = process.argv.slice(2);
const baseURL = `${base}/v1`;
const apiKey = "unused";
const model = "a";
const content = "Say hello.";
const messages = [{ role: "user", content }];
const schema = { type: "object", properties: { path: { type: "string" } } };
const tools = [{ type: "function", function: { name: "ls", parameters: schema } }];
const openai = () => new OpenAI({ baseURL, apiKey, maxRetries: 0 });
const langchain = () => new ChatOpenAI({ model, apiKey, configuration: { baseURL }, maxRetries: 0 });
const vercel = () => createOpenAICompatible({ name: "hotseat", baseURL, apiKey })(model);

async function textOf(stream, of) {
  let text = "";
  for await (const piece of stream) text += of(piece);
  return { text };
}

async function summed(stream) {
  let sum;
  for await (const chunk of stream) sum = sum === undefined ? chunk : sum.concat(chunk);
  return { text: sum.content, type: sum.getType(), calls: (sum.tool_calls ?? []).map((call) => [call.name, call.args]) };
}

const SNIPPETS = {
  openai: async () =>
    textOf(await openai().chat.completions.create({ model, messages, stream: true }), (c) => c.choices[0].delta.content ?? ""),
  "openai completions": async () =>
    textOf(await openai().completions.create({ model, prompt: content, stream: true }), (c) => c.choices[0].text),
  "openai helper": async () => {
    const { role, content: text } = (await openai().chat.completions.stream({ model, messages }).finalChatCompletion()).choices[0].message;
    return { text, type: role };
  },
  "openai helper, tools": async () => {
    const { role, tool_calls } = (await openai().chat.completions.stream({ model, messages, tools }).finalChatCompletion()).choices[0].message;
    return { type: role, calls: tool_calls.map((call) => [call.function.name, JSON.parse(call.function.arguments)]) };
  },
  "openai responses": async () =>
    textOf(await openai().responses.create({ model, input: content, stream: true }), (e) =>
      e.type === "response.output_text.delta" ? e.delta : "",
    ),
  anthropic: async () => {
    const stream = new Anthropic({ baseURL: base, apiKey, maxRetries: 0 }).messages.stream({ model, max_tokens: 64, messages });
    let text = "";
    stream.on("text", (piece) => (text += piece));
    const { role } = await stream.finalMessage();
    return { text, type: role };
  },
  langchain: async () => summed(await langchain().stream(content)),
  "langchain, tools": async () => summed(await langchain().bindTools(tools).stream(content)),
  vercel: async () => textOf(streamText({ model: vercel(), prompt: content, maxRetries: 0 }).textStream, (piece) => piece),
  "vercel, tools": async () => {
    const ls = tool({ inputSchema: jsonSchema(schema) });
    const calls = await streamText({ model: vercel(), prompt: content, tools: { ls }, maxRetries: 0 }).toolCalls;
    return { calls: calls.map((call) => [call.toolName, call.input]) };
  },
};

console.log(JSON.stringify(await SNIPPETS[name]()));
