// Numbers as a reader wants them, and the scale of the tint.

const KNEE = 0.02; // nats: below it the tint grows about linearly, above it with the logarithm
const DEEPEST = 8; // nats: the deepest tint

/** The shifts that the legend shows, in nats. */
export const MARKS = [0, 0.05, 0.2, 1, 3, DEEPEST];

/** Tint from 0 to 1 of a shift in nats. */
export function tint(shift) {
  const grown = Math.log1p(Math.max(shift, 0) / KNEE) / Math.log1p(DEEPEST / KNEE);
  return Math.min(1, grown).toFixed(3);
}

/** About three significant digits. */
export function number(value) {
  const size = Math.abs(value);
  if (size === 0) return "0";
  if (size >= 100) return Math.round(value).toLocaleString("en");
  if (size < 0.0005) return value.toExponential(0).replace("e-", "e\u2212").replace(/^-/, "\u2212");
  return value.toFixed(size >= 10 ? 1 : size >= 1 ? 2 : 3).replace(/^-/, "\u2212");
}

/** A divergence: rounding may bring zero out a little below zero. */
export const shiftOf = (value) => number(Math.max(value, 0));

/** A probability from its natural logarithm. */
export const share = (logprob) => number(Math.exp(logprob));

/** Bytes with a unit. */
export function size(bytes) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  let value = bytes;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toPrecision(2)} ${units[unit]}`;
}

/** A count such as 7.61 B. */
export function count(value) {
  for (const [unit, name] of [[1e9, "B"], [1e6, "M"], [1e3, "k"]]) {
    if (value >= unit) return `${(value / unit).toPrecision(3)} ${name}`;
  }
  return String(value);
}

/** A number of things: "1 token", "2,000 tokens". */
export const plural = (n, name) => `${n.toLocaleString("en")} ${name}${n === 1 ? "" : "s"}`;
