// One answer: its tokens as they arrive, the strip of its hesitations, and the keys to move in it.
import { make, oncePerFrame, vary } from "./dom.js";
import { number, plural, share, shiftOf, tint } from "./numbers.js";
import { lineAway } from "./lines.js";
import { Placing } from "./placing.js";
import { laidOut, spoken } from "./tokens.js";

const ENDS = { stop: "ended by itself", length: "cut at max tokens", error: "the model gave no valid number", abort: "ended by the server", stopped: "stopped" };
const BLOCK = 64; // tokens after which a line end opens a new block: the browser lays out one block, not all
const MARGIN = 36; // pixels kept around a token that is brought into view
const AT_END = 24; // pixels from the end within which the text keeps following

export class Answer {
  /** `events` has onChoose(answer, index), onPoint(answer, index), onEnter(), onLeave(). */
  constructor(loops, events) {
    this.loops = loops;
    this.events = events;
    this.tokens = []; // {lens, text, node, bar}
    this.chosen = -1;
    this.tintLoop = 2;
    this.text = "";
    this.end = "";
    this.most = 0;
    this.placing = new Placing();
    this.follows = true; // the text scrolls along with its end
    this.top = 0;
    this.#build();
  }

  #build() {
    const made = document.getElementById("answer").content.cloneNode(true);
    this.element = made.querySelector(".answer");
    this.list = made.querySelector(".text");
    this.strip = made.querySelector(".strip");
    this.measures = made.querySelector(".measures");
    this.note = made.querySelector(".note");
    const title = `${plural(this.loops, "loop")}`;
    made.querySelector("h2").textContent = title;
    this.element.setAttribute("aria-label", `Answer with ${title}`);
    this.list.setAttribute("aria-label", `Tokens of the answer with ${title}`);
    this.list.classList.add("writing");
    this.strip.setAttribute("aria-label", `Where the model hesitated, with ${title}`);
    const copy = made.querySelector(".copy");
    copy.setAttribute("aria-label", `Copy the answer with ${title}`);
    copy.addEventListener("click", () => this.#copy(copy));
    this.refresh = oncePerFrame(() => this.#refresh());
    this.#listen();
  }

  #listen() {
    const at = (event) => Number(event.target.closest("[data-i]")?.dataset.i ?? -1);
    this.list.addEventListener("click", (event) => at(event) >= 0 && this.choose(at(event), true));
    this.list.addEventListener("mouseover", (event) => at(event) >= 0 && this.events.onPoint(this, at(event)));
    this.list.addEventListener("focusin", (event) => at(event) >= 0 && at(event) !== this.chosen && this.choose(at(event)));
    this.list.addEventListener("keydown", (event) => this.#key(event, true));
    this.list.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    this.strip.addEventListener("click", (event) => at(event) >= 0 && this.choose(at(event)));
    this.strip.addEventListener("keydown", (event) => this.#key(event, false));
  }

  #key(event, inText) {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const from = Math.max(this.chosen, 0);
    const last = this.tokens.length - 1;
    const page = Math.max(1, Math.round(last / 10));
    const moves = {
      ArrowRight: () => from + (this.chosen < 0 ? 0 : 1),
      ArrowLeft: () => from - 1,
      ArrowDown: () => (inText ? lineAway(this.tokens, from, 1) : from - 1),
      ArrowUp: () => (inText ? lineAway(this.tokens, from, -1) : from + 1),
      PageDown: () => from + page,
      PageUp: () => from - page,
      Home: () => 0,
      End: () => last,
    };
    if (event.key in moves && last >= 0) {
      this.choose(Math.min(Math.max(moves[event.key](), 0), last), inText);
    } else if ((event.key === "Enter" || event.key === " ") && this.chosen >= 0) {
      this.events.onEnter();
    } else if (event.key === "Escape") {
      this.events.onLeave();
    } else {
      return;
    }
    event.preventDefault();
  }

  /** Adds a chunk: one entry of `lenses` a token, and the text that became certain with them. */
  push(text, lenses) {
    const now = performance.now();
    if (!this.tokens.length && lenses.length) this.began = now;
    const tokens = lenses.map((lens) => this.#append(lens));
    if (tokens.length) this.latest = now;
    this.text += text;
    this.#place(this.placing.add(text, tokens));
    this.refresh();
  }

  #append(lens) {
    const i = this.tokens.length;
    const node = make("span", { role: "option", tabIndex: i ? -1 : 0, ariaSelected: "false", ariaLabel: this.#name(lens) });
    const bar = make("i");
    node.dataset.i = bar.dataset.i = i;
    const entropy = lens.entropy.at(-1);
    vary(bar, { "--e": entropy.toFixed(3) });
    this.tokens.push({ lens, text: "", node, bar });
    this.#tintOne(this.tokens[i]);
    if (entropy > this.most) {
      this.most = entropy;
      vary(this.strip, { "--most": entropy.toFixed(3) });
    }
    this.#block(i).append(node);
    this.strip.append(bar);
    return this.tokens[i];
  }

  /** The block that token `i` goes to. */
  #block(i) {
    const block = this.list.lastElementChild;
    const full = block?.childElementCount >= BLOCK && this.tokens[i - 1].text.endsWith("\n");
    if (block && !full) return block;
    this.list.append(make("span", { className: "block", role: "presentation" }));
    return this.list.lastElementChild;
  }

  #place(parts) {
    for (const [token, text] of parts) {
      token.text += text;
      token.node.append(...laidOut(text));
    }
  }

  #name(lens) {
    const moved = lens.shift.length ? `shift ${shiftOf(lens.shift[0])} nats, ` : "";
    return `token ${spoken(lens)}, ${moved}probability ${share(lens.logprob.at(-1))}`;
  }

  #tintOne({ lens, node, bar }) {
    const shift = lens.shift[this.tintLoop - 2];
    if (shift === undefined) return;
    const shade = tint(shift);
    vary(node, { "--t": shade });
    vary(bar, { "--t": shade });
  }

  /** Tints by what `loop` changed of the loop before it. */
  tintBy(loop) {
    this.tintLoop = loop;
    for (const token of this.tokens) this.#tintOne(token);
  }

  /** Chooses a token and brings it into view; with `focus` the keyboard goes there too. */
  choose(index, focus = false) {
    const token = this.select(index);
    if (focus) token.node.focus({ preventScroll: true });
    this.reveal(index);
    this.events.onChoose(this, index);
  }

  /** Scrolls the answer, and nothing around it, until a token is in view. */
  reveal(index) {
    reveal(this.list, this.tokens[index].node);
    reveal(this.strip, this.tokens[index].bar);
  }

  /** Marks a token as the chosen one; nothing moves. */
  select(index) {
    const token = this.tokens[index];
    this.unchoose();
    this.tokens[0].node.tabIndex = -1;
    this.chosen = index;
    token.node.tabIndex = 0;
    token.node.ariaSelected = "true";
    token.bar.classList.add("on");
    this.strip.ariaValueNow = index + 1;
    this.strip.ariaValueText = `${token.node.ariaLabel}, entropy ${number(token.lens.entropy.at(-1))} nats`;
    return token;
  }

  unchoose() {
    const token = this.tokens[this.chosen];
    this.chosen = -1;
    if (!token) return;
    token.node.ariaSelected = "false";
    token.node.tabIndex = -1;
    token.bar.classList.remove("on");
    this.tokens[0].node.tabIndex = 0;
  }

  /** The token that the second loop moved most; the first one where there is one loop. */
  mostMoved() {
    const shifts = this.tokens.map(({ lens }) => lens.shift[0] ?? 0);
    return shifts.indexOf(Math.max(...shifts));
  }

  mark(index) {
    this.tokens[index].node.classList.add("differs");
    this.tokens[index].bar.classList.add("differs");
  }

  /** Tokens per second after the first, or NaN. */
  get speed() {
    return ((this.tokens.length - 1) / (this.latest - this.began)) * 1000;
  }

  finish(end) {
    this.#place(this.placing.close());
    this.list.append(this.placing.rest);
    this.end = ENDS[end] ?? end;
    this.list.classList.remove("writing");
    this.refresh();
  }

  summary() {
    const parts = [plural(this.tokens.length, "token")];
    if (this.tokens.length > 1 && this.speed < Infinity) parts.push(`${number(this.speed)} tokens/s`);
    if (this.began) parts.push(`first after ${Math.round(this.began - this.asked)} ms`);
    if (this.end) parts.push(this.end, `seed ${this.seed}`);
    return parts.join(" \u00b7 ");
  }

  #refresh() {
    this.measures.textContent = this.summary();
    const most = this.element.querySelector(".most");
    most.textContent = this.tokens.length ? `top: ${number(this.most)} nats` : "";
    this.strip.ariaValueMax = Math.max(this.tokens.length, 1);
    if (!this.follows) return;
    this.list.scrollTop = this.list.scrollHeight;
    this.top = this.list.scrollTop;
    this.strip.scrollLeft = this.strip.scrollWidth;
  }

  #scrolled() {
    const { scrollTop, clientHeight, scrollHeight } = this.list;
    // News of our own scrolling comes late, when more text is there: only going up ends following.
    if (scrollTop < this.top - 1) this.follows = false;
    if (scrollTop + clientHeight > scrollHeight - AT_END) this.follows = true;
    this.top = scrollTop;
  }

  async #copy(button) {
    await navigator.clipboard.writeText(this.text);
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  }
}

/** Scrolls `box`, and nothing around it, until `node` is in view. */
function reveal(box, node) {
  const inner = node.getBoundingClientRect();
  const outer = box.getBoundingClientRect();
  if (inner.top < outer.top) box.scrollTop -= outer.top - inner.top + MARGIN;
  else if (inner.bottom > outer.bottom) box.scrollTop += inner.bottom - outer.bottom + MARGIN;
  if (inner.left < outer.left) box.scrollLeft -= outer.left - inner.left + MARGIN;
  else if (inner.right > outer.right) box.scrollLeft += inner.right - outer.right + MARGIN;
}
