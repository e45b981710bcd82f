"use strict";
(() => {
  const root = document.documentElement;
  const theme = document.getElementById("theme");
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme || (system.matches ? "dark" : "light")) === "dark";
  const name = () => { theme.textContent = isDark() ? "Light" : "Dark"; };
  theme.hidden = false;
  theme.setAttribute("aria-label", "Switch between light and dark");
  theme.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    name();
  });
  system.addEventListener("change", name);
  name();

  const element = (tag, text, parent, className) => {
    const made = document.createElement(tag);
    if (text !== undefined) made.textContent = text;
    if (className) made.className = className;
    if (parent) parent.append(made);
    return made;
  };
  const share = (p) => (p >= 0.001 ? p.toFixed(3) : p === 0 ? "0" : p.toExponential(0));

  for (const view of document.querySelectorAll(".passage")) {
    const data = JSON.parse(view.querySelector("script[type='application/json']").textContent);
    const options = [...view.querySelectorAll("[role='option']")];
    const panel = view.querySelector(".panel-of-token");
    const said = view.querySelector(".said");
    const choose = view.querySelector(".choose");
    const code = view.querySelector(".code");
    let chosen = -1;
    let fixed = false;

    const showLoop = (token, r, into) => {
      const box = element("div", undefined, into);
      box.style.setProperty("--bar", `var(--s${r % 8})`);
      element("h5", `Loop ${r + 1}`, box).style.borderColor = `var(--s${r % 8})`;
      const facts = element("dl", undefined, box);
      const fact = (label, value) => { element("dt", label, facts); element("dd", value, facts); };
      fact("rank", String(token.r[r]));
      fact("probability", share(token.p[r]));
      fact("entropy", `${token.e[r]} nats`);
      if (r > 0) fact("shift", `${token.s[r - 1]} nats`);
      const list = element("ol", undefined, box);
      for (const [text, p] of token.c[r] || []) {
        const line = element("li", undefined, list, text === token.t ? "truth" : "");
        line.style.setProperty("--p", p);
        element("b", text, line).title = text;
        element("span", share(p), line);
      }
    };
    const show = (index) => {
      const token = data.tokens[index];
      panel.hidden = false;
      view.querySelector(".view").classList.add("on");
      panel.replaceChildren();
      element("h4", token.t, panel);
      const note = token.r.length
        ? "What each loop expected in this place; the token itself is underlined."
        : "The first token: nothing stands before it, so no loop expected it.";
      element("small", note, panel);
      const loops = element("div", undefined, panel, "loops");
      token.r.forEach((_, r) => showLoop(token, r, loops));
      return token;
    };
    const select = (index, focus) => {
      if (index < 0 || index >= options.length) return;
      const before = options[chosen < 0 ? 0 : chosen];
      before.setAttribute("aria-selected", "false");
      before.tabIndex = -1;
      chosen = index;
      options[index].setAttribute("aria-selected", "true");
      options[index].tabIndex = 0;
      if (focus) options[index].focus();
      const token = show(index);
      const told = token.r.map((rank, r) => `loop ${r + 1}: rank ${rank}, probability ${share(token.p[r])}`);
      said.textContent = `${token.t}. ${told.join("; ")}`;
    };
    const line = (index, step) => {
      const here = options[index].getBoundingClientRect();
      let best = -1;
      let least = Infinity;
      for (let i = index + step; i >= 0 && i < options.length; i += step) {
        const there = options[i].getClientRects()[0];
        const down = (there.top - here.top) * step;
        if (down < here.height / 2) continue;
        if (down > 3.5 * here.height && best >= 0) break;
        const off = Math.abs(there.left - here.left) + 4 * down;
        if (off < least) { least = off; best = i; }
        if (best >= 0 && i - best > 200) break;
      }
      return best < 0 ? index : best;
    };
    code.addEventListener("keydown", (event) => {
      const at = Math.max(chosen, 0);
      const to = {
        ArrowRight: () => at + 1,
        ArrowLeft: () => at - 1,
        ArrowDown: () => line(at, 1),
        ArrowUp: () => line(at, -1),
        Home: () => 0,
        End: () => options.length - 1,
        Enter: () => at,
        " ": () => at,
      }[event.key];
      if (event.key === "Escape") fixed = false;
      if (!to) return;
      event.preventDefault();
      fixed = true;
      select(Math.min(Math.max(to(), 0), options.length - 1), true);
    });
    options.forEach((option, index) => {
      option.addEventListener("mouseenter", () => { if (!fixed) select(index, false); });
      option.addEventListener("focus", () => { if (chosen !== index) select(index, false); });
      option.addEventListener("click", () => {
        fixed = !(fixed && chosen === index);
        select(index, true);
      });
    });
    if (choose) {
      choose.hidden = false;
      const buttons = [...choose.querySelectorAll("button")];
      for (const button of buttons) {
        button.addEventListener("click", () => {
          for (const other of buttons) other.setAttribute("aria-pressed", String(other === button));
          const at = Number(button.dataset.loop) - 2;
          options.forEach((option, i) => {
            const shift = Math.max(data.tokens[i].s[at] || 0, 0);
            option.style.setProperty("--t", Math.sqrt(Math.min(1, shift / data.most)).toFixed(2));
          });
        });
      }
    }
    let first = Math.min(1, options.length - 1);  // nothing is expected of the very first
    data.tokens.forEach((token, i) => {
      if ((token.s[0] || 0) > (data.tokens[first].s[0] || 0)) first = i;
    });
    if (options.length) select(first, false);
    said.textContent = "";
  }
})();
