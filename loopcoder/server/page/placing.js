// Which token wrote which part of the text that has arrived.

/**
 * Gives every token its own text. The server sends text as it becomes certain and tokens with
 * their bytes; one may come before the other, and a character may take several tokens: it goes to
 * the one that completes it. Joined, the parts are exactly the text.
 */
export class Placing {
  constructor() {
    this.decoder = new TextDecoder("utf-8", { ignoreBOM: true });
    this.rest = ""; // text without a token so far
    this.open = []; // tokens without their text so far, and the text that their bytes make
  }

  /** Adds text and tokens, which have `lens.bytes`; yields [token, its text] for what is settled. */
  *add(text, tokens) {
    this.rest += text;
    for (const token of tokens) {
      const bytes = new Uint8Array(token.lens.bytes ?? []);
      this.open.push({ token, own: this.decoder.decode(bytes, { stream: true }) });
    }
    while (this.open.length && this.rest.startsWith(this.open[0].own)) {
      const { token, own } = this.open.shift();
      this.rest = this.rest.slice(own.length);
      yield [token, own];
    }
    // A tokenizer that writes more or less than its bytes, such as one space less at the beginning.
    if (this.open.length && !this.open[0].own.startsWith(this.rest)) yield* this.close();
  }

  /** Gives what is left to the last token that has none: no other will come for it. */
  *close() {
    const last = this.open.at(-1)?.token;
    if (last && this.rest) yield [last, this.rest];
    if (last) this.rest = "";
    this.open = [];
  }
}
