// The accuracy-flops curve with all operating points, and the chosen one.

import { drawing, millions, percent } from "./dom.js";

const HEIGHT = 270;
const [LEFT, RIGHT, TOP, BOTTOM] = [46, 14, 16, 44]; // room for the axes
const MOST_TICKS = 6;
const STEP = 0.05; // of the accuracy axis

/** Draw the curve into a box. Call it again when the box has another width, or another choice.
 *
 * `choose` gets the index of a point that is clicked.
 */
export function drawCurve(box, model, points, chosen, choose) {
  const width = Math.max(box.clientWidth, 260);
  const scale = scales(model, points, width);
  const svg = drawing(
    "svg",
    { viewBox: `0 0 ${width} ${HEIGHT}`, width, height: HEIGHT, role: "img" },
    ...axes(scale, width),
    ...curve(model, scale),
    ...exits(model, scale),
    ...points.flatMap((point) => promise(point, scale)),
    ...points.flatMap((point) => budget(point, scale)),
    ...choice(points[chosen], scale),
  );
  svg.setAttribute("aria-label", `Accuracy against multiply-adds. ${sentence(points[chosen])}`);
  svg.addEventListener("click", (event) => {
    const x = event.clientX - svg.getBoundingClientRect().left;
    choose(nearest(points, scale, x));
  });
  box.replaceChildren(svg);
}

function sentence(point) {
  const accuracy = point.accuracy ? `, accuracy ${percent(point.accuracy.value, 1)}` : "";
  return `Chosen: ${millions(point.mean_flops.value)} multiply-adds${accuracy}.`;
}

function scales(model, points, width) {
  const measured = [...points.map((each) => each.accuracy), ...model.exits.map((e) => e.accuracy)];
  const known = measured.filter(Boolean);
  const low = STEP * Math.floor(Math.min(...known.map((each) => each.low)) / STEP);
  const high = Math.min(1, STEP * Math.ceil(Math.max(...known.map((each) => each.high)) / STEP));
  const most = 1.02 * Math.max(model.full_flops, ...model.exits.map((each) => each.flops));
  return {
    low,
    high,
    most,
    x: (flops) => LEFT + (flops / most) * (width - LEFT - RIGHT),
    y: (accuracy) => TOP + ((high - accuracy) / (high - low)) * (HEIGHT - TOP - BOTTOM),
  };
}

function axes({ x, y, low, high, most }, width) {
  const floor = HEIGHT - BOTTOM;
  const parts = [];
  for (const accuracy of ticks(low, high)) {
    const down = y(accuracy);
    parts.push(
      drawing("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: down, y2: down }),
      text(percent(accuracy), { x: LEFT - 8, y: down + 4, "text-anchor": "end" }),
    );
  }
  for (const flops of ticks(0, most)) {
    const label = flops === 0 ? "0" : millions(flops).replace(".0", "");
    const place = x(flops) > width - 2 * RIGHT // there is no room on its right
      ? { x: width, "text-anchor": "end" }
      : { x: x(flops), "text-anchor": "middle" };
    parts.push(text(label, { y: floor + 18, ...place }));
  }
  const middle = (LEFT + width - RIGHT) / 2;
  parts.push(text("mean multiply-adds", { x: middle, y: HEIGHT - 6, "text-anchor": "middle" }));
  return parts;
}

/** Return round numbers from `low` to `high`. */
function ticks(low, high) {
  const power = 10 ** Math.floor(Math.log10((high - low) / MOST_TICKS));
  const step = [1, 2, 5, 10].map((each) => each * power).find((each) => (high - low) / each < MOST_TICKS);
  const first = Math.ceil(low / step - 1e-9);
  const count = Math.floor(high / step + 1e-9) - first + 1;
  return Array.from({ length: count }, (_, i) => (first + i) * step);
}

function curve(model, { x, y }) {
  const line = model.curve.map(({ mean_flops: flops, accuracy }) => ({
    at: x(flops.value),
    value: y(accuracy.value),
    low: y(accuracy.low),
    high: y(accuracy.high),
  }));
  const upper = line.map((each) => `${each.at},${each.high}`);
  const lower = line.map((each) => `${each.at},${each.low}`).reverse();
  const last = line.at(-1);
  const full = model.budgets.full;
  const parts = [
    drawing("polygon", { class: "band", points: [...upper, ...lower].join(" ") }),
    drawing("polyline", {
      class: "line",
      points: line.map((each) => `${each.at},${each.value}`).join(" "),
    }),
  ];
  if (full) {
    const [x2, y2] = [x(full.mean_flops.value), y(full.accuracy.value)];
    parts.push(drawing("line", { class: "line dashed", x1: last.at, y1: last.value, x2, y2 }));
  }
  return parts;
}

function exits(model, { x, y }) {
  return model.exits.map((each) => {
    const [across, down] = [x(each.flops), y(each.accuracy.value)];
    const path = `M${across - 4} ${down - 4}l8 8m0 -8l-8 8`;
    return drawing("path", { class: "cross", d: path });
  });
}

function promise(point, { x }) {
  const name = point.names.find((each) => each.kind === "promise");
  if (!name) return [];
  const [across, floor] = [x(point.mean_flops.value), HEIGHT - BOTTOM];
  const path = `M${across} ${floor - 6}l5 6l-5 6l-5 -6z`;
  return [drawing("path", { class: "promise", d: path })];
}

function budget(point, { x, y }) {
  const names = point.names.filter((each) => each.kind === "budget");
  if (names.length === 0) return [];
  const [across, down] = [x(point.mean_flops.value), y(point.accuracy.value)];
  const label = text(names.map((each) => each.text).join(", "), {
    class: "name",
    x: across - 7,
    y: down - 9,
    "text-anchor": across < LEFT + 60 ? "start" : "end", // the curve rises to the right
  });
  return [drawing("circle", { class: "dot", cx: across, cy: down, r: 4 }), label];
}

function choice(point, { x, y }) {
  const across = x(point.mean_flops.value);
  const floor = HEIGHT - BOTTOM;
  const down = point.accuracy ? y(point.accuracy.value) : floor;
  return [
    drawing("line", { class: "guide", x1: across, x2: across, y1: TOP, y2: floor }),
    drawing("circle", { class: "halo", cx: across, cy: down, r: 12 }),
    drawing("circle", { class: "chosen", cx: across, cy: down, r: 6 }),
  ];
}

function nearest(points, { x }, at) {
  const distances = points.map((point) => Math.abs(x(point.mean_flops.value) - at));
  return distances.indexOf(Math.min(...distances));
}

function text(content, attributes) {
  return drawing("text", attributes, content);
}
