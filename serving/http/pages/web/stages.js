// The exits as a row of stages that light up to the one that answers.

import { element, millions, percent } from "./dom.js";
import { exitAt, isEvaluated } from "./points.js";

const STATES = {
  waiting: "waiting",
  silent: "passed, not asked",
  passed: "goes on",
  taken: "answers here",
  rest: "not run",
};

/** Draw the row for a picture at an operating point.
 *
 * Until all of `opinions` are there, the stages that are missing wait.
 */
export function drawStages(list, model, point, opinions) {
  const complete = opinions.length === model.exits.length;
  const taken = complete ? exitAt(point.thresholds, opinions) : null;
  list.replaceChildren(
    ...model.exits.map((exit, k) => {
      const state = stateOf(point.thresholds, opinions[k], exit.exit, taken);
      return stage(model, exit, point.thresholds[k], opinions[k], state);
    }),
  );
}

function stateOf(thresholds, opinion, exit, taken) {
  if (!opinion) return "waiting";
  if (taken === exit) return "taken";
  if (taken !== null && exit > taken) return "rest";
  return isEvaluated(thresholds, exit) ? "passed" : "silent";
}

function stage(model, exit, threshold, opinion, state) {
  const last = exit.exit === model.exits.length;
  return element(
    "li",
    { class: "stage", "data-state": state, "data-exit": String(exit.exit) },
    element("span", { class: "road", "aria-hidden": "true" }),
    element("h3", {}, `Exit ${exit.exit}`),
    element("p", { class: "state" }, STATES[state]),
    element("p", { class: "label" }, opinion ? opinion.label : "–"),
    meter(opinion, last ? null : threshold),
    element("p", { class: "numbers" }, numbers(opinion, last ? null : threshold)),
    element(
      "p",
      { class: "muted" },
      `${millions(exit.flops)} (${percent(exit.flops / model.full_flops)})`,
    ),
  );
}

function meter(opinion, threshold) {
  const bar = element("div", { class: "meter", "aria-hidden": "true" });
  if (opinion) bar.append(element("div", { class: "fill", "--share": String(opinion.confidence) }));
  if (threshold !== null) {
    bar.append(element("div", { class: "threshold", "--share": String(Math.min(threshold, 1)) }));
  }
  return bar;
}

function numbers(opinion, threshold) {
  const sure = opinion ? `confidence ${opinion.confidence.toFixed(3)}` : "";
  if (threshold === null) return sure;
  const least = threshold > 1 ? "never leaves here" : `leaves at ${threshold.toFixed(3)}`;
  return [sure, least].filter(Boolean).join(", ");
}
