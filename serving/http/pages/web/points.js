// Operating points of a model, and where each of them lets a picture leave. The same rules as
// serving/engine/policy.py: leave at the first exit with a confidence of at least its threshold.

import { millions, percent } from "./dom.js";

const NEVER = 1; // no confidence reaches a threshold above it
const KINDS = ["exit", "agreement", "harm", "accuracy"]; // of promises: each implies those after it

/** Return the exit, from 1, that answers a picture at these thresholds. */
export function exitAt(thresholds, opinions) {
  const last = thresholds.length - 1;
  for (let k = 0; k < last; k += 1) {
    if (!(opinions[k].confidence < thresholds[k])) return k + 1;
  }
  return last + 1;
}

/** Return whether the head of an exit, from 1, runs at these thresholds. */
export function isEvaluated(thresholds, exit) {
  return exit === thresholds.length || thresholds[exit - 1] <= NEVER;
}

/** Return the multiply-adds of an answer at an exit, without what does not run for it: heads of
 * exits that are not evaluated, and in networks before, the stages after the last one that is. */
export function flopsAt(model, thresholds, exit) {
  const needed = (each) => each.exit === exit || isEvaluated(thresholds, each.exit);
  const before = model.exits.slice(0, exit);
  return before.reduce((sum, each, k) => {
    const runs = before.some((later) =>
      later.exit >= each.exit && later.network === each.network && needed(later));
    const stage = each.flops - (k > 0 ? before[k - 1].flops : 0);
    return sum + (runs ? stage - (needed(each) ? 0 : each.head_flops) : 0);
  }, 0);
}

/** Return the operating points that a request can ask for, from cheap to dear.
 *
 * Points with equal thresholds are one. Each has `names`, with the query that asks for it.
 */
export function pointsOf(model) {
  const found = new Map();
  for (const each of [...named(model), ...promised(model), ...onCurve(model)]) {
    const id = each.point.thresholds.join();
    const known = found.get(id) ?? { ...each.point, names: [] };
    known.accuracy ??= each.point.accuracy ?? null;
    known.names.push({ text: each.text, kind: each.kind, query: each.query });
    found.set(id, known);
  }
  return [...found.values()].sort((a, b) => a.mean_flops.value - b.mean_flops.value);
}

/** Return the index of the point with the default budget. */
export function defaultPoint(model, points) {
  const at = points.findIndex((point) =>
    point.names.some((name) => name.kind === "budget" && name.text === model.default_budget),
  );
  return Math.max(at, 0);
}

/** Return terms and texts that describe a point. */
export function factsOf(model, point) {
  const { value } = point.mean_flops;
  const accuracy = point.accuracy;
  const known = accuracy
    ? `${percent(accuracy.value, 1)} (${percent(accuracy.low, 1)} to ${percent(accuracy.high, 1)})`
    : "not measured: a promise bounds the difference to full depth";
  return [
    ["Asked by", point.names.map((name) => new URLSearchParams(name.query)).join(" or ")],
    ["Multiply-adds, mean", `${millions(value)}, ${percent(value / model.full_flops)} of full depth`],
    ["Accuracy", known],
    ["Leave at each exit", point.exit_shares.map((share) => percent(share.value)).join(", ")],
  ];
}

/** Return a command that asks for a point. */
export function commandOf(point) {
  const url = new URL(`classify?${new URLSearchParams(point.names[0].query)}`, document.baseURI);
  return `curl --data-binary @picture.jpg '${url}'`;
}

function named(model) {
  return Object.entries(model.budgets).map(([name, point]) => ({
    kind: "budget",
    text: name,
    query: { budget: name },
    point,
  }));
}

function promised(model) {
  return (model.promises?.offered ?? []).map((offered) => {
    const level = levelOf(offered);
    return {
      kind: "promise",
      text: level,
      query: { promise: level },
      point: cheapestPromise(model.promises.offered, offered),
    };
  });
}

function onCurve(model) {
  return model.curve.map((point) => {
    const flops = Math.ceil(point.mean_flops.value);
    return {
      kind: "curve",
      text: `${((100 * flops) / model.full_flops).toFixed(1)}%`,
      query: { budget: String(flops) },
      point: bestWithin(model.curve, flops),
    };
  });
}

function bestWithin(curve, flops) {
  const affordable = curve.filter((point) => point.mean_flops.value <= flops);
  return affordable.reduce((best, point) =>
    point.accuracy.value < best.accuracy.value ? best : point,
  );
}

function cheapestPromise(offered, asked) {
  const holding = offered.filter(
    (each) =>
      KINDS.indexOf(each.kind) <= KINDS.indexOf(asked.kind) && each.epsilon <= asked.epsilon,
  );
  return holding.reduce((best, each) =>
    each.mean_flops.value < best.mean_flops.value ? each : best,
  );
}

function levelOf({ kind, epsilon }) {
  const percent = (share) => `${Number((100 * share).toFixed(6))}%`;
  if (kind === "agreement") return percent(1 - epsilon);
  return `${kind}:${percent(kind === "exit" ? 1 - epsilon : epsilon)}`;
}
