/** Entry of the plugin; registering starts nothing. */

import { readFileSync } from "node:fs";

import { bind } from "./bind.js";
import type { PluginApi } from "./openclaw-api.js";

const manifest = JSON.parse(readFileSync(new URL("../openclaw.plugin.json", import.meta.url), "utf8")) as Manifest;

interface Manifest {
  id: string;
  name: string;
  description: string;
  activation: object;
  configSchema: object;
}

const entry = {
  id: manifest.id,
  name: manifest.name,
  description: manifest.description,
  register(api: PluginApi): void {
    bind(api);
  },
};

/** What `openclaw plugins validate` holds the manifest to; the SDK's `defineToolPlugin` puts the same here. */
Object.defineProperty(entry, Symbol.for("openclaw.plugin-sdk.tool-plugin.metadata"), {
  value: { ...entry, activation: manifest.activation, configSchema: manifest.configSchema, tools: [] },
});

export default entry;
