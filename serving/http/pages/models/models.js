// The page of models: versions, states and reasons, read again every few seconds.

import { getVersions, useKey } from "./api.js";
import { byId, element } from "./dom.js";

const SECONDS = 5; // between two readings, while the page is visible
const NOT_LOADED = "not loaded";
const HEADS = ["Version", "State", "Answers, or the reason why not"];
let timer = 0;

async function refresh() {
  clearTimeout(timer);
  try {
    const { rows, standard } = await getVersions();
    tell("");
    byId("key-form").hidden = true;
    draw(rows, standard);
  } catch (problem) {
    if (problem.status === 401) byId("key-form").hidden = false;
    tell(problem.message);
    if (problem.status === 401) return; // until there is a key
  }
  timer = setTimeout(() => !document.hidden && refresh(), 1000 * SECONDS);
}

function draw(rows, standard) {
  const names = [...new Set(rows.map((row) => row.name))];
  const cards = names.map((name) => cardOf(name, rows.filter((row) => row.name === name), standard));
  byId("models").replaceChildren(...cards);
  const ready = rows.filter((row) => row.state === "READY").length;
  const failed = rows.filter(hasFailed).length;
  const counts = [counted(names.length, "model"), counted(ready, "version")];
  byId("summary").textContent = `${counts.join(", ")} ready, ${failed} failed`;
  byId("time").textContent = `as of ${new Date().toLocaleTimeString()}`;
}

function counted(number, name) {
  return number === 1 ? `1 ${name}` : `${number} ${name}s`;
}

function cardOf(name, rows, standard) {
  const id = `model-${name}`;
  const note = name === standard ? "answers calls without a name" : "";
  return element(
    "section",
    { class: "card", "aria-labelledby": id },
    element("div", { class: "row" }, element("h2", { id }, name), element("span", { class: "muted" }, note)),
    element(
      "div",
      { class: "scroll whole", tabindex: "0", role: "region", "aria-label": `Versions of ${name}` },
      element("table", { class: "versions" }, headOf(), element("tbody", {}, ...rows.map(rowOf))),
    ),
  );
}

function headOf() {
  const cells = HEADS.map((text) => element("th", { scope: "col" }, text));
  return element("thead", {}, element("tr", {}, ...cells));
}

function rowOf(row) {
  const state = hasFailed(row) ? "FAILED" : row.state;
  return element(
    "tr",
    { "data-state": state },
    element("th", { scope: "row" }, row.version),
    element("td", { class: "version-state" }, state.toLowerCase()),
    element("td", {}, [row.answers, row.reason].filter(Boolean).join("; ")),
  );
}

function hasFailed(row) {
  return row.state === "UNAVAILABLE" && row.reason !== NOT_LOADED;
}

function tell(text) {
  byId("message").textContent = text;
  byId("message").hidden = text === "";
}

byId("refresh").addEventListener("click", refresh);
document.addEventListener("visibilitychange", () => !document.hidden && refresh());
byId("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  useKey(byId("key").value);
  refresh();
});
refresh();
