/** Compiles only if what the plugin assumes of OpenClaw's API is so in the real package. */

import type { OpenClawPluginApi } from "openclaw/plugin-sdk/plugin-entry";

import type { Hooks, PluginApi } from "./openclaw-api.js";

export function rest(api: OpenClawPluginApi): Omit<PluginApi, "on"> {
  return api;
}

export function hooks(api: OpenClawPluginApi, mine: Hooks): void {
  api.on("message_received", mine.message_received);
  api.on("before_model_resolve", mine.before_model_resolve);
  api.on("before_agent_reply", mine.before_agent_reply, { eligibleTriggers: ["cron", "heartbeat"] });
  api.on("model_call_started", mine.model_call_started);
  api.on("model_call_ended", mine.model_call_ended);
  api.on("session_end", mine.session_end);
  api.on("subagent_spawned", mine.subagent_spawned);
  api.on("subagent_ended", mine.subagent_ended);
}
