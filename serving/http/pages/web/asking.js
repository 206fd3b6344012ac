// Real requests for one picture at several budgets, side by side, with their times.

import { classify } from "./api.js";
import { element, millions, percent } from "./dom.js";

const BUDGETS = ["low", "medium", "full"];

/** Return the budgets to compare: low, medium and full, or the first three of another model. */
export function comparedBudgets(model) {
  const known = BUDGETS.filter((name) => name in model.budgets);
  return known.length > 1 ? known : Object.keys(model.budgets).slice(0, 3);
}

/** Ask for each budget, one after the other, and draw each answer when it is there. */
export async function askAll(list, budgets, file, deadline) {
  const cards = budgets.map((budget) => card(budget, element("p", { class: "muted" }, "asking …")));
  list.replaceChildren(...cards);
  for (const [i, budget] of budgets.entries()) {
    const query = deadline ? { budget, deadline_ms: deadline } : { budget };
    const started = performance.now();
    const body = await classify(file, query).then(
      (answer) => described(answer, performance.now() - started),
      (problem) => [element("p", { class: "failed" }, problem.message)],
    );
    cards[i].replaceWith(card(budget, ...body));
  }
}

function card(budget, ...body) {
  return element("li", { class: "answer" }, element("h3", {}, budget), ...body);
}

function described(answer, elapsed) {
  const times = answer.timings_ms;
  const notes = [
    answer.deadline_hit ? "answered at its deadline" : "",
    answer.degraded ? "answered early, the server is overloaded" : "",
  ].filter(Boolean);
  return [
    element("p", { class: "label" }, answer.label),
    element("p", {}, `exit ${answer.exit} of ${answer.exits}, confidence ${answer.confidence.toFixed(3)}`),
    element("p", {}, `${millions(answer.flops)} (${percent(answer.flops_share)})`),
    element("p", { class: "time" }, `${times.total.toFixed(1)} ms in the server`),
    element(
      "p",
      { class: "muted" },
      `decode ${times.decode.toFixed(1)}, queue ${times.queue.toFixed(1)}, ` +
        `compute ${times.compute.toFixed(1)} ms; ${elapsed.toFixed(1)} ms as seen from here`,
    ),
    ...notes.map((text) => element("p", { class: "failed" }, text)),
  ];
}
