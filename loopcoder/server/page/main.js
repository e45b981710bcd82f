// The page: asks, shows the answers as they stream, and holds what is chosen.
import { Answer } from "./answer.js";
import { key, read, ServerError, stream } from "./api.js";
import * as chat from "./chat.js";
import { Comparison } from "./compare.js";
import { byId, make } from "./dom.js";
import * as legend from "./legend.js";
import { watch } from "./live.js";
import { count, number, plural } from "./numbers.js";
import { showToken } from "./panel.js";
import * as settings from "./settings.js";
import * as theme from "./theme.js";

const CANDIDATES = 5;
const state = { model: null, answers: [], comparison: null, stopper: null, shown: null, held: false };
const invitation = [...byId("panel").children]; // what the panel says before a token is chosen

function fail(error) {
  const line = byId("error");
  line.textContent = error?.message ?? "";
  line.hidden = !error;
  if (error?.status === 401) byId("key-field").hidden = false;
}

const say = (sentence) => { byId("status").textContent = sentence; };

async function loadModel() {
  try {
    const [model] = (await read("v1/models")).data;
    state.model = model;
    settings.fit(model);
    const shape = `${count(model.parameters)} parameters \u00b7 ${plural(model.layers, "layer")} \u00b7 ${plural(model.loops, "loop")}`;
    byId("facts").replaceChildren(make("b", {}, model.id), ` \u00b7 ${shape} \u00b7 context ${model.max_model_len.toLocaleString("en")}`);
    document.title = `${model.id} \u00b7 LoopCoder`;
    fail(null);
  } catch (error) {
    fail(error);
  }
}

const events = {
  onChoose(answer, index) {
    for (const other of state.answers) if (other !== answer) other.unchoose();
    state.held = true;
    show(answer, index);
  },
  onPoint(answer, index) {
    if (!state.held) show(answer, index);
  },
  onEnter: () => byId("panel").focus(),
  onLeave() {
    state.held = false;
    for (const answer of state.answers) answer.unchoose();
  },
};

function show(answer, index) {
  state.shown = answer.tokens[index];
  showToken(byId("panel"), answer, index);
}

function request(answer, sampling) {
  const body = { ...sampling, model: state.model.id, loops: answer.loops, stream: true, loop_lens: CANDIDATES };
  if (!settings.isChat()) return ["v1/completions", { ...body, prompt: settings.prompt.value }];
  const messages = [...chat.messages(), { role: "user", content: settings.prompt.value }];
  return ["v1/chat/completions", { ...body, messages }];
}

/** Streams one answer; `begin` is called once it has begun. What has arrived stays, whatever comes. */
async function run(answer, [path, body], begin) {
  let end = "";
  answer.asked = performance.now();
  answer.seed = body.seed;
  try {
    for await (const { choices } of stream(path, body, state.stopper.signal)) {
      begin();
      const [choice] = choices;
      if (!choice) continue; // the last event may carry the usage alone
      answer.push(choice.text ?? choice.delta?.content ?? "", choice.loop_lens ?? []);
      end = choice.finish_reason ?? end;
      state.comparison.look();
    }
    answer.finish(end);
  } catch (error) {
    const stopped = error.name === "AbortError";
    answer.finish(stopped ? "stopped" : "broken off");
    if (!stopped) throw error instanceof ServerError ? error : new ServerError(0, `The page failed: ${error.message}`);
  }
}

/** Puts new answers in the place of the old ones, which stay for as long as nothing has come. */
function lay(answers) {
  if (state.answers === answers) return;
  state.answers = answers;
  for (const answer of answers) remark(answer);
  byId("answers").replaceChildren(...answers.map((answer) => answer.element));
  byId("answers").classList.toggle("two", answers.length > 1);
  state.comparison = new Comparison(answers);
  state.held = false;
  byId("panel").replaceChildren(...invitation);
  const most = Math.max(...answers.map((answer) => answer.loops));
  legend.fit(most, (loop) => answers.forEach((answer) => answer.tintBy(loop)));
}

/** A trained model at another loop count writes worse: that is the model, not a fault. */
function remark(answer) {
  if (answer.loops === state.model.loops) return;
  answer.note.textContent = `This model was trained at ${plural(state.model.loops, "loop")}; at ${answer.loops} its text may be poor.`;
  answer.note.hidden = false;
}

function busy(now) {
  state.stopper = now ? new AbortController() : null;
  const [from, to] = now ? [byId("generate"), byId("stop")] : [byId("stop"), byId("generate")];
  const focused = document.activeElement === from;
  to.disabled = false;
  from.disabled = true;
  if (focused) to.focus(); // a button that is off would drop the focus
  byId("answers").ariaBusy = String(now);
}

async function generate() {
  if (state.stopper || !byId("ask").reportValidity()) return;
  busy(true);
  if (!state.model) await loadModel();
  if (state.model) await answer();
  busy(false);
}

async function answer() {
  fail(null);
  say("Generating.");
  const sampling = settings.sampling();
  const message = settings.isChat() ? settings.prompt.value : null;
  const answers = settings.loopCounts(state.model).map((loops) => new Answer(loops, events));
  const runs = answers.map((each) => run(each, request(each, sampling), () => lay(answers)));
  const failed = (await Promise.allSettled(runs)).find((result) => result.status === "rejected");
  if (failed) fail(failed.reason);
  say(answers.map((each) => `${plural(each.loops, "loop")}: ${each.summary()}.`).join(" "));
  if (state.answers === answers) close(answers.at(-1), failed ? null : message);
}

/** The end of a run: the most telling token is shown, the message of a chat put by. */
function close(last, message) {
  state.comparison.close();
  if (!state.held && last.tokens.length) {
    last.select(last.mostMoved());
    show(last, last.chosen);
  }
  if (message !== null && last.tokens.length) {
    chat.remember(message, last.text);
    settings.clearPrompt();
  }
}

function listen() {
  byId("ask").addEventListener("submit", (event) => {
    event.preventDefault();
    generate();
  });
  byId("ask").addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
    event.preventDefault();
    generate();
  });
  byId("stop").addEventListener("click", () => state.stopper?.abort());
  byId("panel").addEventListener("keydown", (event) => {
    if (event.key === "Escape") state.shown?.node.focus();
  });
  byId("difference-show").addEventListener("click", () => {
    for (const answer of state.answers) answer.reveal(state.comparison.place);
    state.answers.at(-1).choose(state.comparison.place, true);
  });
}

function start() {
  theme.begin();
  settings.begin();
  chat.begin();
  listen();
  loadModel();
  const poll = watch(() => state.model ?? loadModel(), fail);
  byId("key").value = key.get();
  byId("key").addEventListener("change", async () => {
    key.set(byId("key").value);
    await loadModel();
    poll();
  });
}

start();
