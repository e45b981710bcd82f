// Small helpers for making nodes and naming values.

export const byId = (id) => document.getElementById(id);

/** A new element: `properties` are set on it, `children` (nodes or strings) go into it. */
export function make(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

/** Sets CSS custom properties, which a strict content security policy allows from scripts. */
export function vary(node, values) {
  for (const [name, value] of Object.entries(values)) node.style.setProperty(name, value);
  return node;
}

/** Runs `work` once in the next frame, however often it is asked for until then. */
export function oncePerFrame(work) {
  let asked = false;
  return () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => {
      asked = false;
      work();
    });
  };
}
