// Light and dark: the system's choice, until the reader makes another.
import { byId } from "./dom.js";

const KEPT = "loopcoder.theme";
const system = matchMedia("(prefers-color-scheme: dark)");
const root = document.documentElement;

const isDark = () => (root.dataset.theme ?? (system.matches ? "dark" : "light")) === "dark";

function name() {
  byId("theme").textContent = isDark() ? "Light" : "Dark";
}

export function begin() {
  const kept = localStorage.getItem(KEPT);
  if (kept) root.dataset.theme = kept;
  byId("theme").addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    localStorage.setItem(KEPT, root.dataset.theme);
    name();
  });
  system.addEventListener("change", name);
  name();
}
