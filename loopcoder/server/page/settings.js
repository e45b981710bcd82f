// The form: what was asked for, kept in this tab so that a reload loses nothing.
import { byId } from "./dom.js";

const KEPT = "loopcoder.form";
const NUMBERS = ["max_tokens", "temperature", "top_p", "top_k"];
const EXAMPLES = { completion: "def fibonacci(n):\n", chat: "" };

const form = byId("ask");

export const isChat = () => form.elements.mode.value === "chat";
export const prompt = byId("prompt");

/** Fields of a request, without those left empty: the server has its own defaults for them. */
export function sampling() {
  const body = {};
  for (const name of NUMBERS) {
    const field = form.elements[name];
    if (field.value !== "") body[name] = field.valueAsNumber;
  }
  const seed = form.elements.seed.value;
  body.seed = seed === "" ? crypto.getRandomValues(new Uint32Array(1))[0] : Number(seed);
  return body;
}

/** The loop counts to run, side by side: one, or two if they are to be compared. */
export function loopCounts(model) {
  const chosen = byId("loops").valueAsNumber || model.loops;
  const compared = byId("compare").checked && !byId("compare").disabled;
  return compared ? [1, chosen > 1 ? chosen : Math.max(model.loops, 2)] : [chosen];
}

/** Fits the form to what the model can do. */
export function fit(model) {
  const loops = byId("loops");
  loops.max = model.most_loops;
  loops.placeholder = String(model.loops);
  if (loops.value === "") loops.value = model.loops;
  byId("compare").disabled = model.most_loops < 2;
  byId("compare-label").title = model.most_loops < 2 ? "This model has one loop only" : "";
  byId("modes").hidden = !model.chat;
  if (!model.chat) form.elements.mode.value = "completion";
  nameThePrompt();
}

function nameThePrompt() {
  byId("prompt-label").textContent = isChat() ? "Message" : "Prompt";
}

function keep() {
  const fields = [...form.elements].filter((field) => field.name && field.type !== "radio");
  const values = fields.map((field) => [field.name, field.type === "checkbox" ? field.checked : field.value]);
  sessionStorage.setItem(KEPT, JSON.stringify({ ...Object.fromEntries(values), mode: form.elements.mode.value }));
}

function restore() {
  const kept = JSON.parse(sessionStorage.getItem(KEPT) ?? "null");
  if (!kept) {
    prompt.value = EXAMPLES.completion;
    return;
  }
  for (const [name, value] of Object.entries(kept)) {
    const field = form.elements[name];
    if (field && typeof value === "boolean") field.checked = value;
    else if (field) field.value = value;
  }
}

/** Empties the box once its message is part of the conversation. */
export function clearPrompt() {
  prompt.value = "";
  keep();
}

/** Brings the form back as it was, and keeps it from now on. */
export function begin() {
  restore();
  form.addEventListener("input", keep);
  for (const radio of form.elements.mode) radio.addEventListener("change", nameThePrompt);
}
