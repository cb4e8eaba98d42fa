// One release for each model that the conversation may have kept warm. Never throws: a broker that is away lets the
// lease lapse.

const PROVIDER = "hotseat";
const LIMIT_MS = 2000;

export default async function handler(event) {
  const { sessionEntry, previousSessionEntry, cfg } = event.context;
  const models = new Set([sessionEntry, previousSessionEntry].flatMap(modelsOf));
  if (models.size === 0) addDefault(models, cfg);
  await Promise.all([...models].map((model) => release(event.sessionKey, model)));
}

function modelsOf(entry) {
  const named = [
    [entry?.providerOverride, entry?.modelOverride],
    [entry?.modelProvider, entry?.model],
  ];
  return named.filter(([provider, model]) => provider === PROVIDER && model).map(([, model]) => model);
}

function addDefault(models, cfg) {
  const model = cfg?.agents?.defaults?.model;
  const name = typeof model === "string" ? model : model?.primary;
  if (name?.startsWith(`${PROVIDER}/`)) models.add(name.slice(PROVIDER.length + 1));
}

async function release(sessionKey, model) {
  const { HOTSEAT_URL = "http://127.0.0.1:4687", HOTSEAT_API_KEY } = process.env;
  const headers = { "content-type": "application/json" };
  if (HOTSEAT_API_KEY) headers.authorization = `Bearer ${HOTSEAT_API_KEY}`;
  const body = JSON.stringify({ type: "release", sessionKey, model });
  try {
    const answer = await fetch(`${HOTSEAT_URL.replace(/\/+$/, "")}/activity`, {
      method: "POST",
      headers,
      body,
      signal: AbortSignal.timeout(LIMIT_MS),
    });
    if (!answer.ok) console.warn(`hotseat: ${model} not released: the broker answers ${answer.status}`);
  } catch (error) {
    console.warn(`hotseat: ${model} not released: ${error.message}`);
  }
}
