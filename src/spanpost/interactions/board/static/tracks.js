// The tracks of a waterfall: a task each, with its calls as bars, its checkpoints as ticks, its questions hatched.

import { taskPage } from "./api.js";
import { line, svg } from "./dom.js";
import { LOOKS, money, title } from "./words.js";

const HEAD = 20;
const BAR = 9;
const GAP = 2;
const FEET = 8;
//: Rows of calls that overlap in one track; what is beyond shares the last one.
const ROWS = 6;
const GRAVE = { error: "bad", context_warning: "warm", stalled: "warm", loop: "warm", budget_warning: "warm", artifact: "made", end: "end" };

/** Draw tracks; return the drawing, and where each track stands. */
export function tracks(found, axis) {
  const by = (items) => Map.groupBy(items, (one) => one.task_uid);
  const [bars, ticks, asked] = [by(found.bars), by(found.ticks), by(found.questions)];
  const drawn = [];
  const places = [];
  let top = 0;
  for (const task of found.tracks) {
    const rows = stacked((bars.get(task.uid) ?? []).filter((one) => one.begin <= axis.to && one.end >= axis.from), axis);
    const high = HEAD + Math.max(rows.length, 1) * (BAR + GAP) + FEET;
    places.push({ task, top, bottom: top + high });
    drawn.push(svg("g", { class: "track", transform: `translate(0 ${top})` }, track(task, rows, ticks.get(task.uid) ?? [], asked.get(task.uid) ?? [], axis, high)));
    top += high;
  }
  const marks = axis.marks().map(([at]) => svg("line", { x1: axis.x(at).toFixed(1), x2: axis.x(at).toFixed(1), y1: 0, y2: top, class: "grid" }));
  return { drawn: [marks, drawn], places, high: Math.max(top, 1) };
}

// Calls that overlap stand below each other.
function stacked(bars, axis) {
  const rows = [];
  for (const one of bars) {
    const [left, right] = [axis.x(one.begin), Math.max(axis.x(one.end), axis.x(one.begin) + 2)];
    let row = rows.find((each) => each.right <= left + 0.5);
    if (!row && rows.length < ROWS) rows.push(row = { right: 0, bars: [] });
    row ??= rows[rows.length - 1];
    row.right = Math.max(row.right, right);
    row.bars.push([one, left, right]);
  }
  return rows;
}

function track(task, rows, ticks, asked, axis, high) {
  const [sign] = LOOKS[task.status] ?? ["❔"];
  const said = [line(task.agent_name, 40), money(task.cost_usd)].filter((one) => one && one !== title(task, 40)).join(" · ");
  const [left, right] = [Math.max(axis.x(task.begin), 0), Math.min(axis.x(task.end), axis.wide)];
  return [
    svg("line", { x1: 0, x2: axis.wide, y1: high - 0.5, y2: high - 0.5, class: "border" }),
    right > left && svg("rect", { x: left.toFixed(1), y: HEAD - 2, width: (right - left).toFixed(1), height: high - HEAD - 3, class: "life" }),
    asked.filter((one) => one.begin <= axis.to && one.end >= axis.from).map((one) =>
      svg("rect", { x: axis.x(one.begin).toFixed(1), y: HEAD - 2, width: Math.max(axis.x(one.end) - axis.x(one.begin), 3).toFixed(1), height: high - HEAD - 3, fill: "url(#hatch)", class: "asked" },
        svg("title", {}, `✋ ${line(one.question, 200)}`))),
    rows.map((row, n) => row.bars.map(([one, from, to]) => bar(one, from, to, HEAD + n * (BAR + GAP), axis))),
    ticks.filter((one) => one.begin >= axis.from && one.begin <= axis.to).map((one) =>
      svg("path", { d: `M${axis.x(one.begin).toFixed(1)} ${high - 2}v-6m-2.5 6l2.5 -4l2.5 4z`, class: `tick ${GRAVE[one.kind] ?? ""}` }, svg("title", {}, line(one.text, 200)))),
    svg("a", { href: taskPage(task), "data-route": true, class: "label" },
      svg("text", { x: 2, y: 13 }, svg("tspan", { class: "sign" }, `${sign} `), svg("tspan", { class: "name" }, title(task, 60)), said && svg("tspan", { class: "by" }, `  ${said}`))),
  ];
}

function bar(one, left, right, y, axis) {
  const [from, to] = [Math.max(left, -4), Math.min(right, axis.wide + 4)];
  const wide = Math.max(to - from - 0.5, 1.5);
  const name = line(one.name, 60) || one.kind;
  const isOne = one.count === 1;
  const kind = `bar-of ${one.kind} ${one.errors && isOne ? "bad" : ""} ${one.ended_at ? "" : "open"}`;
  const element = svg("rect", { x: from.toFixed(1), y, width: wide.toFixed(1), height: BAR, rx: Math.min(2, wide / 3), class: kind });
  element.bar = one;
  // A bar of many calls shows the share that failed as its foot.
  if (!isOne) return one.errors ? [element, svg("rect", { x: from.toFixed(1), y: y + BAR - 2, width: wide.toFixed(1), height: 2, class: "bar-of bad foot" })] : element;
  // A word stands in a bar that is wide enough for it.
  return wide > 7 + 5.2 * name.length ? [element, svg("text", { x: (from + 4).toFixed(1), y: y + 7.4, class: `in ${one.kind} ${one.errors ? "bad" : ""}` }, name)] : element;
}
