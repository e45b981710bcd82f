// The server's API: requests, streams of server-sent events, and errors as one clear sentence.

const KEY = "loopcoder.key";

export const key = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  set: (value) => (value ? sessionStorage.setItem(KEY, value) : sessionStorage.removeItem(KEY)),
};

/** What went wrong, as a sentence for the reader. `status` is 0 where no answer came. */
export class ServerError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

const UNREACHABLE = "The server cannot be reached. What you wrote is kept; try again once it runs.";

const headers = (more = {}) => (key.get() ? { ...more, Authorization: `Bearer ${key.get()}` } : more);

async function ask(path, options) {
  let response;
  try {
    response = await fetch(new URL(path, document.baseURI), options);
  } catch (error) {
    throw error.name === "AbortError" ? error : new ServerError(0, UNREACHABLE);
  }
  if (!response.ok) throw await refusal(response);
  return response;
}

async function refusal(response) {
  const { error } = await response.json().catch(() => ({}));
  return new ServerError(response.status, sentence(response.status, error ?? {}, response.headers.get("Retry-After")));
}

function sentence(status, { message, code }, after) {
  if (status === 401) return key.get() ? "The server does not know this API key." : "The server asks for an API key.";
  if (status === 429) {
    const wait = after ? `in ${after} s` : "in a moment";
    return `The server has as many requests as it takes; try again ${wait}.`;
  }
  if (code === "shutting_down") return "The server is shutting down and takes no new requests.";
  if (!message) return `The server answered with status ${status}.`;
  return `${status < 500 ? "The server refused" : "The server failed"}: ${message}`;
}

/** JSON of a GET request. Throws `ServerError`. */
export async function read(path) {
  return (await ask(path, { headers: headers() })).json();
}

/**
 * The events of a streamed POST request, parsed. Throws `ServerError`, also where the stream
 * breaks off before its end, and an AbortError once `signal` is aborted.
 */
export async function* stream(path, body, signal) {
  const response = await ask(path, {
    method: "POST",
    headers: headers({ "Content-Type": "application/json" }),
    body: JSON.stringify(body),
    signal,
  });
  for await (const data of dataLines(response.body)) {
    if (data === "[DONE]") return;
    const event = JSON.parse(data);
    if (event.error) throw new ServerError(0, `The server broke off: ${event.error.message}`);
    yield event;
  }
  throw new ServerError(0, "The connection was lost. What has arrived is kept.");
}

/** The data of each server-sent event (each is one `data:` line here). */
async function* dataLines(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await next(reader);
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      if (line.startsWith("data:")) yield line.slice(5).trim();
    }
  }
}

async function next(reader) {
  try {
    return await reader.read();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    return { done: true };
  }
}
