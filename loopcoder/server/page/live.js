// What the server does now: /stats once a second, while the page can be seen.
import { read } from "./api.js";
import { byId, vary } from "./dom.js";
import { number, size } from "./numbers.js";

const EVERY = 1000; // ms
let before = null;
let timer = 0;

function show(stats) {
  if (stats.steps === undefined) return; // the engine has not told yet
  const now = performance.now();
  if (before) {
    const tokens = stats.generated_tokens - before.tokens;
    const speed = tokens / ((now - before.now) / 1000);
    byId("live-speed").textContent = tokens > 0 ? `${number(speed)} tokens/s` : "idle";
  }
  before = { tokens: stats.generated_tokens, now };
  const waiting = stats.waiting ? `, ${stats.waiting} waiting` : "";
  byId("live-requests").textContent = `${stats.running} running${waiting}`;
  byId("live-memory").textContent = size(stats.engine_rss_bytes + stats.front_rss_bytes);
  const used = stats.kv_bytes_in_use + stats.kv_bytes_cached;
  byId("live-cache").textContent = `${size(used)} of ${size(stats.kv_bytes_reserved)}`;
  vary(byId("live-meter"), { "--used": used / stats.kv_bytes_reserved });
}

/** Polls until the page is hidden or the server asks for a key; `onAnswer` hears of each answer. */
export function watch(onAnswer, onRefused) {
  const poll = async () => {
    clearTimeout(timer);
    if (document.hidden) return;
    try {
      show(await read("stats"));
      byId("live").classList.remove("lost");
      onAnswer();
    } catch (error) {
      byId("live").classList.add("lost");
      before = null;
      if (error.status === 401) return onRefused(error);
    }
    timer = setTimeout(poll, EVERY);
  };
  document.addEventListener("visibilitychange", poll);
  poll();
  return poll;
}
