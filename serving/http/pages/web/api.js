// Calls of the server that served this page, by relative URLs. The key stays in this variable.

const MOST_TRIES = 6; // of a request that is refused because the server is busy
const LONGEST_WAIT = 5; // seconds between two tries
const EVERYTHING = { budget: "full", explain: "true" };
let key = "";
let reads = true; // the key can read more than the index: it is not the admin key

/** An error that the server explained (RFC 9457), or that has no answer (status 0). */
export class Problem extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

/** Set the API key of all further calls. Empty: none. */
export function useKey(value) {
  key = value.trim();
  reads = true;
}

/** Return the description of the model. */
export async function getModel() {
  const response = await call("model", {});
  return response.json();
}

/** Return the opinions of all exits about a picture. `onExit` gets each as it comes. */
export async function opinionsOf(file, exits, onExit) {
  const answer = await classify(file, EVERYTHING, onExit);
  if (answer.explain.length < exits) {
    throw new Problem(0, "the server is overloaded and answered before its last exit");
  }
  return answer.explain;
}

/** Classify a picture and return its answer. With `onExit` the answer comes as a stream. */
export async function classify(file, query, onExit) {
  const parameters = new URLSearchParams(query);
  const headers = { "content-type": "application/octet-stream" };
  if (onExit) headers.accept = "text/event-stream";
  const response = await call(`classify?${parameters}`, { method: "POST", headers, body: file });
  const streams = response.headers.get("content-type")?.startsWith("text/event-stream");
  const body = streams ? await readEvents(response.body, onExit) : await response.json();
  return body.answers[0];
}

/** Return all versions with state and reason, and the model that answers calls without a name. */
export async function getVersions() {
  const response = await call(fromRoot("v2/repository/index"), { method: "POST" });
  const rows = await response.json();
  const models = await loadedModels();
  const first = new Map((models?.models ?? []).map((model) => [model.name, model.version]));
  for (const row of rows) row.answers = models ? answersOf(row, first.get(row.name)) : "";
  return { rows, standard: models?.default ?? null };
}

/** Return the list of loaded models, or null with the admin key, which reads the index only. */
async function loadedModels() {
  if (!reads) return null;
  try {
    return await (await call(fromRoot("models"), {})).json();
  } catch (problem) {
    if (problem.status !== 401) throw problem;
    reads = false;
    return null;
  }
}

function answersOf(row, first) {
  if (row.state !== "READY") return "";
  return row.version === first ? "calls without a version" : "calls that name it";
}

/** Return the URL of a path of the API, for a page at any path. */
function fromRoot(path) {
  return new URL(`../${path}`, import.meta.url);
}

async function call(url, options) {
  for (let tries = 1; ; tries += 1) {
    const response = await send(url, options);
    if (response.ok) return response;
    if (response.status !== 429 || tries === MOST_TRIES) throw await problemOf(response);
    const seconds = Number(response.headers.get("retry-after")) || 1;
    await new Promise((done) => setTimeout(done, 1000 * Math.min(seconds, LONGEST_WAIT)));
  }
}

async function send(url, options) {
  try {
    const headers = new Headers(options.headers);
    if (key) headers.set("authorization", `Bearer ${key}`);
    return await fetch(url, { ...options, headers });
  } catch (error) {
    throw new Problem(0, `no answer from the server (${error.message})`);
  }
}

async function problemOf(response) {
  const body = await response.json().catch(() => ({}));
  return new Problem(response.status, body.detail ?? body.error ?? `status ${response.status}`);
}

/** Read server-sent events up to the final answer. */
async function readEvents(stream, onExit) {
  let text = "";
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) throw new Problem(0, "the answer ended early");
    text += value;
    const events = text.split("\n\n");
    text = events.pop();
    for (const { kind, data } of events.map(eventOf)) {
      if (kind === "exit") onExit(data);
      if (kind === "problem") throw new Problem(data.status, data.detail);
      if (kind === "answer") return data;
    }
  }
}

function eventOf(text) {
  const fields = new Map(
    text.split("\n").map((line) => {
      const at = line.indexOf(":");
      return [line.slice(0, at), line.slice(at + 1).trimStart()];
    }),
  );
  return { kind: fields.get("event"), data: JSON.parse(fields.get("data") ?? "null") };
}
