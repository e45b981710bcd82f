// A token's text: in its place (kept exact), on one line (signs for white space), and aloud.
import { make } from "./dom.js";

const PIECES = /( +)|(\t)|(\n)|([\p{Cc}\p{Cf}])|[^ \t\n\p{Cc}\p{Cf}]+/gu;
const CLASSES = ["sp", "tab", "nl", "ctl"];
const SIGNS = { " ": "\u00b7", "\n": "\u23ce", "\t": "\u21e5", "\r": "\u240d" };
const ALOUD = { " ": "space", "\n": "line end", "\t": "tab", "\r": "carriage return" };

/** Nodes whose text is exactly `text`; white space can be seen, by style alone. */
export function laidOut(text) {
  return [...text.matchAll(PIECES)].map((piece) => {
    const kind = piece.slice(1).findIndex((group) => group !== undefined);
    return kind < 0 ? piece[0] : make("i", { className: CLASSES[kind], textContent: piece[0] });
  });
}

/** The text on one line: `·` a space, `⏎` a line end, `⇥` a tab, code points for what has no shape. */
export function visible(text) {
  if (text === "") return "\u2205";
  return text.replace(/[ \n\t\r]|[\p{Cc}\p{Cf}]/gu, (sign) => {
    return SIGNS[sign] ?? `\\u{${sign.codePointAt(0).toString(16)}}`;
  });
}

/** Bytes as hexadecimal pairs. */
export const hex = (bytes) => bytes.map((byte) => byte.toString(16).padStart(2, "0")).join(" ");

/** Whether the token alone is no text: it holds a part of a character. */
export const isPart = (lens) => lens.token.includes("\ufffd");

/** The text as a screen reader should say it. */
export function spoken(lens) {
  if (isPart(lens)) return `bytes ${hex(lens.bytes)}`;
  if (lens.token === "") return "without text";
  if (/^[ \n\t\r]+$/.test(lens.token)) {
    const runs = lens.token.match(/ +|\n+|\t+|\r+/g);
    return runs.map((run) => (run.length > 1 ? `${run.length} times ` : "") + ALOUD[run[0]]).join(", ");
  }
  return `'${lens.token.replaceAll("\n", " line end ")}'`;
}

/** How a token is written in the panel: bytes where it is no text of its own. */
export const written = (entry) => (isPart(entry) && entry.bytes ? hex(entry.bytes) : visible(entry.token));
