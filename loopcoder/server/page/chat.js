// The conversation before the current message.
import { byId, make } from "./dom.js";
import { plural } from "./numbers.js";

const WHO = { user: "You", assistant: "Model" };
let turns = [];

/** The messages of the conversation so far, as the API takes them. */
export const messages = () => [...turns];

/** Adds a message and its answer. */
export function remember(message, answer) {
  turns.push({ role: "user", content: message }, { role: "assistant", content: answer });
  draw();
}

function draw() {
  byId("conversation").hidden = turns.length === 0;
  const said = turns.map(({ role, content }) => {
    return make("li", {}, make("b", {}, WHO[role]), make("pre", {}, content));
  });
  byId("turns").replaceChildren(...said);
  byId("conversation").querySelector("summary").textContent = `Conversation: ${plural(turns.length / 2, "answer")}`;
}

export function begin() {
  byId("forget").addEventListener("click", () => {
    turns = [];
    draw();
    byId("prompt").focus();
  });
}
