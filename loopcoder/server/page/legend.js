// What the tint means, in numbers, and which loop it shows.
import { byId, make, vary } from "./dom.js";
import { MARKS, tint } from "./numbers.js";

/** Shows the scale for answers of up to `loops` loops; `onLoop` hears which loop is to tint. */
export function fit(loops, onLoop) {
  byId("legend").hidden = loops < 2;
  byId("shades").replaceChildren(...MARKS.map((nats) => vary(make("span", {}, String(nats)), { "--t": tint(nats) })));
  const buttons = [];
  for (let loop = 2; loop <= loops; loop += 1) {
    const button = make("button", { type: "button", textContent: `loop ${loop}` });
    button.addEventListener("click", () => press(loop));
    buttons.push(button);
  }
  const press = (loop) => {
    buttons.forEach((button, i) => { button.ariaPressed = String(i + 2 === loop); });
    byId("legend-what").textContent = `loop ${loop} moved the prediction by`;
    onLoop(loop);
  };
  byId("tint-loop").replaceChildren(...buttons);
  byId("tint-loop").hidden = loops < 3;
  press(2);
}
