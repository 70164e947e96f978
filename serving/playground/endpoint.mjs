// Requests to the server that sent this page, with the reader's key where there is one.

const KEY = "finetune.key";
const BROKEN = "The answer broke off: the server has gone.";
const ROOT = new URL("..", import.meta.url);

/** What the server said no to; status 0: nobody answered. */
export class Refused extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

export function readKey() {
  return sessionStorage.getItem(KEY) ?? "";
}

/** Keep the key until the tab closes; "" forgets it. */
export function keepKey(key) {
  if (key) sessionStorage.setItem(KEY, key);
  else sessionStorage.removeItem(KEY);
}

export async function get(path) {
  const response = await request(path, {});
  return response.json().catch(() => { throw new Refused("The server broke off.", 0); });
}

export async function post(path, body, signal) {
  const headers = { "Content-Type": "application/json" };
  return request(path, { method: "POST", headers, body: JSON.stringify(body), signal });
}

/** The documents of a stream, one by one. Throws Refused where the server breaks it off. */
export async function* stream(path, body, signal) {
  const response = await post(path, { ...body, stream: true, stream_options: { include_usage: true } }, signal);
  let rest = "";
  for await (const text of pieces(response.body.pipeThrough(new TextDecoderStream()))) {
    const events = (rest + text).split("\n\n");
    rest = events.pop();
    for (const event of events) {
      const data = event.replace(/^data: /, "");
      if (data === "[DONE]") return;
      const document = JSON.parse(data);
      if (document.error) throw new Refused(document.error.message, response.status);
      yield document;
    }
  }
  throw new Refused(BROKEN, 0);
}

async function* pieces(readable) {
  const reader = readable.getReader();
  try {
    for (let read = await reader.read(); !read.done; read = await reader.read()) yield read.value;
  } catch (error) {
    throw error.name === "AbortError" ? error : new Refused(BROKEN, 0);
  } finally {
    reader.cancel().catch(() => {});
  }
}

async function request(path, options) {
  const key = readKey();
  const headers = key ? { ...options.headers, Authorization: `Bearer ${key}` } : options.headers;
  let response;
  try {
    response = await fetch(new URL(path, ROOT), { ...options, headers, credentials: "omit", cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused("The server does not answer.", 0);
  }
  if (!response.ok) throw new Refused(await reason(response), response.status);
  return response;
}

async function reason(response) {
  try {
    return (await response.json()).error.message;
  } catch {
    return `The server answered with status ${response.status}.`;
  }
}
