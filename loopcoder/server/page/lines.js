// Moving by a line in text that wraps wherever the screen ends.

/** The token nearest to token `from` on the next line (`step` 1) or the one before (-1). */
export function lineAway(tokens, from, step) {
  const here = tokens[from].node.getClientRects()[0];
  let line = null;
  let best = from;
  let least = Infinity;
  for (let i = from + step; i >= 0 && i < tokens.length; i += step) {
    const there = tokens[i].node.getClientRects()[0];
    if ((there.top - here.top) * step < here.height / 2) continue;
    line ??= there.top;
    if (Math.abs(there.top - line) > here.height / 2) break;
    const off = Math.abs(there.left - here.left);
    if (off < least) {
      least = off;
      best = i;
    }
  }
  return best;
}
