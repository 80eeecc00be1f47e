// Bars of days, stacked, with lines of what is allowed: a drawing, and the same in words.

import { h, svg } from "./dom.js";
import { money } from "./words.js";

const WIDE = 900;
const HIGH = 190;
const LEFT = 52;

/** Draw `bars` (`name`, `sum`, `parts` with `n`, `name` and `value`) and `limits` (`name`, `value`). */
export function stacked(bars, limits, label) {
  const most = Math.max(...bars.map((one) => one.sum), 0) || 1;
  // A limit far above what was spent would flatten the bars: it is told, and not drawn.
  const drawn = limits.filter((one) => one.value <= most * 3);
  const top = Math.max(most, ...drawn.map((one) => one.value)) * 1.08;
  const y = (value) => HIGH - (value / top) * (HIGH - 8);
  const slot = (WIDE - LEFT) / bars.length;
  const wide = Math.max(Math.min(slot * 0.72, 60), 1.5);
  const every = Math.ceil(bars.length / 12);
  return h("figure", { class: "stacked" }, svg("svg", { viewBox: `0 0 ${WIDE} ${HIGH + 20}`, role: "img", "aria-label": label },
    [0.5, 1].map((share) => [svg("line", { x1: LEFT, x2: WIDE, y1: y(most * share), y2: y(most * share), class: "grid" }), svg("text", { x: LEFT - 6, y: y(most * share) + 4, class: "scale" }, money(most * share))]),
    bars.map((one, i) => {
      let at = 0;
      const x = LEFT + slot * (i + 0.5);
      return [one.parts.map((part) => {
        const element = svg("rect", { x: (x - wide / 2).toFixed(1), y: y(at + part.value).toFixed(1), width: wide.toFixed(1), height: Math.max(y(at) - y(at + part.value), 0.5).toFixed(1), class: `s${part.n}` },
          svg("title", {}, `${one.name}: ${part.name} ${money(part.value)} of ${money(one.sum)}`));
        at += part.value;
        return element;
      }), (bars.length - 1 - i) % every === 0 && svg("text", { x: Math.min(x, WIDE - 18).toFixed(1), y: HIGH + 15, class: "date" }, one.name.slice(5))];
    }),
    svg("line", { x1: LEFT, x2: WIDE, y1: HIGH, y2: HIGH, class: "ground" }),
    drawn.map((one) => [svg("line", { x1: LEFT, x2: WIDE, y1: y(one.value), y2: y(one.value), class: "allowed" }), svg("text", { x: LEFT + 4, y: y(one.value) - 4, class: "allowed" }, one.name)])),
  limits.length > drawn.length && h("figcaption", { class: "small" }, `Far above: ${limits.filter((one) => !drawn.includes(one)).map((one) => one.name).join("; ")}.`));
}
