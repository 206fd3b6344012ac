// All pictures together: a histogram of exits, what they cost, a table and its CSV.

import { element, listFacts, millions, percent } from "./dom.js";
import { exitAt, flopsAt } from "./points.js";

const MOST_ROWS = 200; // that are shown; the CSV has all
const HEADINGS = ["picture", "answer", "exit", "confidence", "flops", "full depth"];
const FORMULA = /^[=+\-@\t\r]/; // a spreadsheet would compute such a cell

/** Return the answer of a picture at an operating point, computed from its exits' opinions. */
export function answerOf(model, point, opinions) {
  const exit = exitAt(point.thresholds, opinions);
  const flops = flopsAt(model, point.thresholds, exit);
  return { ...opinions[exit - 1], exit, flops, full: opinions.at(-1).label };
}

/** Draw totals and histogram of pictures whose opinions are all there. */
export function drawTotals(list, histogram, model, point, pictures) {
  const answers = pictures.map((picture) => answerOf(model, point, picture.opinions));
  const spent = answers.reduce((sum, each) => sum + each.flops, 0);
  const same = answers.filter((each) => each.label === each.full).length;
  const saved = 1 - spent / (model.full_flops * answers.length);
  listFacts(list, [
    ["Pictures", String(answers.length)],
    ["Multiply-adds saved", percent(saved, 1)],
    ["Mean of an answer", millions(spent / answers.length)],
    ["Same label as full depth", `${same} of ${answers.length}`],
  ]);
  histogram.replaceChildren(
    ...model.exits.map(({ exit }) => {
      const count = answers.filter((each) => each.exit === exit).length;
      return bar(exit, count, answers.length);
    }),
  );
}

/** Draw the table of pictures. `select` gets the picture whose name is clicked. */
export function drawTable(table, model, point, pictures, select) {
  const rows = pictures.slice(0, MOST_ROWS).map((picture) => row(model, point, picture, select));
  const more = pictures.length - rows.length;
  const note = more > 0 ? [element("caption", {}, `${more} more are in the CSV`)] : [];
  const head = HEADINGS.map((text) => element("th", { scope: "col" }, text));
  table.replaceChildren(
    ...note,
    element("thead", {}, element("tr", {}, ...head)),
    element("tbody", {}, ...rows),
  );
}

/** Return the table of all pictures as CSV (RFC 4180). */
export function csvOf(model, point, pictures) {
  const exits = model.exits.flatMap(({ exit }) => [`exit_${exit}_label`, `exit_${exit}_confidence`]);
  const heads = ["picture", "budget", "label", "exit", "confidence", "flops", "flops_share"];
  const lines = pictures.map((picture) => {
    const answer = answerOf(model, point, picture.opinions);
    const opinions = picture.opinions.flatMap((each) => [each.label, each.confidence]);
    const budget = Object.values(point.names[0].query)[0];
    const share = (answer.flops / model.full_flops).toFixed(6);
    return [picture.file.name, budget, answer.label, answer.exit, answer.confidence, answer.flops,
      share, ...opinions];
  });
  return [[...heads, ...exits], ...lines].map((line) => line.map(cell).join(",") + "\r\n").join("");
}

function bar(exit, count, all) {
  return element(
    "li",
    {},
    element("span", {}, `Exit ${exit}`),
    element("span", { class: "bar", "--share": String(count / all), "aria-hidden": "true" }),
    element("span", { class: "count" }, `${count} (${percent(count / all)})`),
  );
}

function row(model, point, picture, select) {
  const answer = answerOf(model, point, picture.opinions);
  const name = element(
    "button",
    { type: "button", class: "link", onclick: () => select(picture) },
    picture.file.name,
  );
  const cells = [answer.label, answer.exit, answer.confidence.toFixed(3), millions(answer.flops)];
  return element(
    "tr",
    {},
    element("th", { scope: "row" }, name),
    ...cells.map((text) => element("td", {}, String(text))),
    element("td", {}, answer.full === answer.label ? "the same" : answer.full),
  );
}

function cell(value) {
  const text = typeof value === "string" && FORMULA.test(value) ? `'${value}` : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
