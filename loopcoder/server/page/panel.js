// The panel of the chosen token: what each loop expected in its place.
import { make, vary } from "./dom.js";
import { number, share, shiftOf } from "./numbers.js";
import { hex, written } from "./tokens.js";

const colour = (loop) => ({ "--loop": `var(--s${loop % 8})` });

/** Fills `panel` with the token `index` of an answer. */
export function showToken(panel, answer, index) {
  const { lens, text } = answer.tokens[index];
  const loops = lens.entropy.map((_, loop) => loop);
  panel.replaceChildren(
    make("h2", { className: "token" }, written(lens)),
    make("p", { className: "where" }, where(answer, index)),
    make("p", { className: "said" }, told(lens, text)),
    make("div", { className: "loops" }, ...loops.map((loop) => expectations(lens, loop))),
    make("h3", {}, "Entropy by loop, nats"),
    entropies(lens),
    ...gates(lens),
  );
}

function where(answer, index) {
  const { lens } = answer.tokens[index];
  const of = `token ${index + 1} of ${answer.tokens.length}, R = ${answer.loops}`;
  return `${of} \u00b7 id ${lens.token_id} \u00b7 bytes ${hex(lens.bytes) || "none"}`;
}

/** What the loops did to the token, in a sentence. */
function told(lens, text) {
  const held = text === "" ? " It has no text of its own: a part of a character, of a stop string, or the end." : "";
  const last = lens.rank.length - 1;
  const place = (loop) => `rank ${lens.rank[loop].toLocaleString("en")} (${share(lens.logprob[loop])})`;
  if (last === 0) return `One loop put this token at ${place(0)}.${held}`;
  const [first, ...more] = lens.shift.map((shift, i) => [i + 2, `${shiftOf(shift)} nats`]);
  const moves = [`Loop ${first[0]} moved the prediction by ${first[1]}`, ...more.map(([loop, by]) => `loop ${loop} by ${by}`)];
  return `${moves.join(", ")}${more.length ? "; together they" : " and"} ${change(lens, last, place)}.${held}`;
}

function change(lens, last, place) {
  const gain = lens.logprob[last] - lens.logprob[0];
  if (Math.abs(gain) < 0.005) return `left this token at ${place(last)}`;
  const verb = gain > 0 ? "raised" : "lowered";
  if (lens.rank[0] !== lens.rank[last]) return `${verb} this token from ${place(0)} to ${place(last)}`;
  return `${verb} this token, at rank ${lens.rank[0].toLocaleString("en")} as before, from ${share(lens.logprob[0])} to ${share(lens.logprob[last])}`;
}

function expectations(lens, loop) {
  const facts = [
    ["probability", share(lens.logprob[loop])],
    ["rank", lens.rank[loop].toLocaleString("en")],
    ["shift", loop ? `${shiftOf(lens.shift[loop - 1])} nats` : "\u2013"],
  ];
  const list = make("dl", {}, ...facts.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));
  const box = make("section", { className: "loop", ariaLabel: `Loop ${loop + 1}` });
  box.append(make("h3", {}, `Loop ${loop + 1}`), list, candidates(lens, loop));
  return vary(box, colour(loop));
}

function candidates(lens, loop) {
  const lines = lens.candidates[loop].map((entry) => candidate(entry, entry.token_id === lens.token_id));
  if (!lens.candidates[loop].some((entry) => entry.token_id === lens.token_id)) {
    const own = candidate({ ...lens, logprob: lens.logprob[loop] }, true);
    own.classList.add("beyond");
    lines.push(own);
  }
  return make("ol", { ariaLabel: `Likeliest tokens of loop ${loop + 1}` }, ...lines);
}

function candidate(entry, chosen) {
  const line = make("li", { className: chosen ? "chosen" : "" });
  const mark = chosen ? [make("span", { className: "sr" }, " (the chosen token)")] : [];
  const shown = written(entry);
  line.append(make("b", { title: shown }, shown), make("span", {}, share(entry.logprob), ...mark));
  return vary(line, { "--p": Math.exp(entry.logprob).toFixed(4) });
}

function entropies(lens) {
  const most = Math.max(...lens.entropy, 1e-9);
  const rows = lens.entropy.flatMap((entropy, loop) => [
    make("span", {}, `loop ${loop + 1}`),
    vary(make("span", { className: "bar", ariaHidden: "true" }), { ...colour(loop), "--v": (entropy / most).toFixed(3) }),
    make("span", {}, number(entropy)),
  ]);
  return make("div", { className: "bars charts" }, ...rows);
}

function gates(lens) {
  if (!lens.gate.length) return [];
  const explained = "1: the whole context, as loop 1 keyed it. 0: the loop's own window of the last tokens. Mean over heads.";
  return [...lens.gate.flatMap((layers, i) => gateChart(layers, i + 1)), make("p", { className: "explain" }, explained)];
}

/** A gate; null where the prompt's end was read without its later loops' gates. */
const weight = (gate) => gate?.toFixed(2) ?? "\u2013";

function gateChart(layers, loop) {
  const numbers = layers.map((gate, layer) => `layer ${layer + 1} ${weight(gate)}`).join(", ");
  const chart = make("div", { className: "gates charts", role: "img", ariaLabel: `Gate of loop ${loop + 1}: ${numbers}` });
  chart.append(...layers.map((gate, layer) => {
    const bar = vary(make("span", { className: "bar" }), { ...colour(loop), "--v": gate ?? 0 });
    return make("div", {}, make("span", {}, weight(gate)), bar, make("span", { className: "layer" }, String(layer + 1)));
  }));
  return [make("h3", {}, `Gate of loop ${loop + 1} by layer`), chart];
}
