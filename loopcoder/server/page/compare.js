// Two answers to one prompt: where they part.
import { byId, make } from "./dom.js";
import { plural } from "./numbers.js";
import { written } from "./tokens.js";

export class Comparison {
  constructor(answers) {
    this.answers = answers;
    this.place = 0; // tokens that are the same in both
    this.parted = false;
    byId("difference").hidden = true;
  }

  /** Looks at what has arrived since the last time. */
  look() {
    if (this.answers.length < 2 || this.parted) return;
    const [one, two] = this.answers.map((answer) => answer.tokens);
    while (this.place < one.length && this.place < two.length) {
      if (one[this.place].lens.token_id !== two[this.place].lens.token_id) return this.#part();
      this.place += 1;
    }
  }

  #part() {
    this.parted = true;
    const words = this.answers.map((answer) => {
      answer.mark(this.place);
      return make("code", {}, written(answer.tokens[this.place].lens));
    });
    const same = this.place ? `The same for ${plural(this.place, "token")}, then ` : "From the first token on, ";
    const [one, two] = this.answers.map((answer) => plural(answer.loops, "loop"));
    this.#say([same, `${one} wrote `, words[0], ` and ${two} `, words[1], "."]);
  }

  /** Says so if the answers never parted. */
  close() {
    if (this.answers.length < 2 || this.parted || !this.place) return;
    const [one, two] = this.answers.map((answer) => answer.tokens.length);
    const whole = one === two ? "Both answers are the same" : "One answer is the beginning of the other";
    this.#say([`${whole}: ${plural(this.place, "token")}.`]);
  }

  #say(parts) {
    byId("difference-text").replaceChildren(...parts);
    byId("difference-show").hidden = !this.parted;
    byId("difference").hidden = false;
  }
}
