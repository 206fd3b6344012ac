// The page: pictures come in, each is asked once at full depth with all exits' opinions, and every
// other view is computed from these.

import { askAll, comparedBudgets } from "./asking.js";
import { getModel, opinionsOf, useKey } from "./api.js";
import { drawCurve } from "./chart.js";
import { fillThumbnail, viewsOf } from "./crop.js";
import { byId, element, listFacts, millions, percent } from "./dom.js";
import { answerOf, csvOf, drawTable, drawTotals } from "./many.js";
import { commandOf, defaultPoint, factsOf, pointsOf } from "./points.js";
import { drawStages } from "./stages.js";

const MOST_PICTURES = 2000;
const MOST_THUMBNAILS = 48;
const AT_ONCE = 3; // requests

let model = null;
let points = [];
let chosen = 0; // index in `points`
let pictures = [];
const early = []; // files that were given before the model was known
let selected = null;
let asking = 0; // requests under way
let drawing = false; // of all pictures, at the next frame
const resized = new ResizeObserver(drawChart);

// --- the model ---------------------------------------------------------------------------------

async function start() {
  try {
    model = await getModel();
  } catch (problem) {
    if (problem.status === 401) byId("key-form").hidden = false;
    tell(problem.message);
    return;
  }
  tell("");
  points = pointsOf(model);
  chosen = defaultPoint(model, points);
  byId("model").textContent = `${model.name}, version ${model.version}`;
  byId("point").max = String(points.length - 1);
  byId("ask").textContent = `Ask for ${comparedBudgets(model).join(", ")}`;
  drawNames();
  drawPoint();
  resized.observe(byId("curve"));
  add(early.splice(0));
}

function drawNames() {
  const buttons = points.flatMap((point, index) =>
    point.names
      .filter((name) => name.kind !== "curve")
      .map((name) => {
        const text = name.kind === "promise" ? `promise ${name.text}` : name.text;
        const onclick = () => choose(index);
        return element("button", { type: "button", "data-point": String(index), onclick }, text);
      }),
  );
  byId("names").replaceChildren(...buttons);
}

function choose(index) {
  chosen = index;
  drawPoint();
}

function drawPoint() {
  const point = points[chosen];
  const slider = byId("point");
  slider.value = String(chosen);
  const name = point.names.map((each) => each.text).join(", ");
  slider.setAttribute("aria-valuetext", `${name}: ${millions(point.mean_flops.value)}`);
  for (const button of byId("names").children) {
    button.setAttribute("aria-pressed", String(Number(button.dataset.point) === chosen));
  }
  listFacts(byId("facts"), factsOf(model, point));
  byId("command").textContent = commandOf(point);
  drawChart();
  drawExits();
  drawManySoon();
}

function drawChart() {
  drawCurve(byId("curve"), model, points, chosen, choose);
}

// --- pictures ----------------------------------------------------------------------------------

function add(files) {
  if (!model) return void early.push(...files); // its input size and exits are needed to show one
  const room = MOST_PICTURES - pictures.length;
  if (files.length > room) tell(`At most ${MOST_PICTURES} pictures: ${files.length - room} are left out.`);
  const added = files.slice(0, room).map((file) => ({ file, opinions: [], state: "waiting" }));
  pictures.push(...added);
  for (const picture of added) showThumbnail(picture);
  if (added.length > 0) select(added[0]);
  byId("clear").hidden = pictures.length === 0;
  pump();
}

function showThumbnail(picture) {
  const list = byId("thumbnails");
  if (list.children.length >= MOST_THUMBNAILS) return;
  const box = element("span", { class: "thumbnail", "aria-hidden": "true" }, "…");
  const name = element("span", {}, picture.file.name);
  const onclick = () => select(picture);
  picture.button = element("button", { type: "button", "aria-pressed": "false", onclick }, box, name);
  list.append(element("li", {}, picture.button));
  fillThumbnail(box, model.input, picture.file);
}

/** Start as many requests as are allowed at once. */
function pump() {
  while (asking < AT_ONCE) {
    const next = pictures.find((picture) => picture.state === "waiting");
    if (!next) return;
    next.state = "asked";
    asking += 1;
    askFor(next).finally(() => {
      asking -= 1;
      pump();
    });
  }
}

async function askFor(picture) {
  const onExit = (opinion) => {
    picture.opinions.push(opinion);
    if (picture === selected) drawExits();
  };
  try {
    picture.opinions = await opinionsOf(picture.file, model.exits.length, onExit);
    picture.state = "answered";
  } catch (problem) {
    picture.state = "failed";
    picture.problem = problem.message;
  }
  if (picture === selected) drawExits();
  drawManySoon();
}

function select(picture) {
  selected = picture;
  for (const each of pictures) each.button?.setAttribute("aria-pressed", String(each === picture));
  byId("ask").disabled = !selected;
  byId("asked").replaceChildren();
  drawExits();
  showViews();
}

async function showViews() {
  const picture = selected;
  const contents = picture ? await viewsOf(model.input, picture.file) : [[], []];
  if (picture !== selected) return; // another one was chosen meanwhile
  byId("original").replaceChildren(...contents[0]);
  byId("seen").replaceChildren(...contents[1]);
}

function drawExits() {
  const opinions = selected?.opinions ?? [];
  drawStages(byId("stages"), model, points[chosen], opinions);
  byId("verdict").textContent = verdict();
}

function verdict() {
  if (!selected) return "Add a picture to see its exits.";
  if (selected.state === "failed") return selected.problem;
  if (selected.state !== "answered") return "";
  const answer = answerOf(model, points[chosen], selected.opinions);
  const saved = 1 - answer.flops / model.full_flops;
  const gain = saved > 0 ? `, ${percent(saved)} of the multiply-adds saved` : "";
  return `${answer.label}, from exit ${answer.exit} of ${model.exits.length}${gain}`;
}

/** Draw all pictures at the next frame, once for all that changed before it. */
function drawManySoon() {
  if (drawing) return;
  drawing = true;
  requestAnimationFrame(() => {
    drawing = false;
    drawMany();
  });
}

function drawMany() {
  const answered = pictures.filter((picture) => picture.state === "answered");
  const failed = pictures.filter((picture) => picture.state === "failed").length;
  const note = failed > 0 ? `, ${failed} without an answer` : "";
  const done = `${answered.length} of ${pictures.length} answered${note}`;
  byId("progress").textContent = pictures.length > 0 ? done : "";
  byId("many").hidden = answered.length < 2;
  if (answered.length < 2) return;
  drawTotals(byId("totals"), byId("histogram"), model, points[chosen], answered);
  drawTable(byId("table"), model, points[chosen], answered, select);
}

// --- events ------------------------------------------------------------------------------------

function tell(text) {
  byId("message").textContent = text;
  byId("message").hidden = text === "";
}

function download() {
  const answered = pictures.filter((picture) => picture.state === "answered");
  const csv = new Blob([csvOf(model, points[chosen], answered)], { type: "text/csv" });
  const href = URL.createObjectURL(csv);
  element("a", { href, download: "offramp.csv" }).click();
  setTimeout(() => URL.revokeObjectURL(href), 1000);
}

function removeAll() {
  pictures = [];
  byId("thumbnails").replaceChildren();
  byId("clear").hidden = true;
  select(null);
  drawManySoon();
}

for (const id of ["files", "camera"]) {
  byId(id).addEventListener("change", (event) => {
    add([...event.target.files]);
    event.target.value = "";
  });
}
byId("point").addEventListener("input", (event) => choose(Number(event.target.value)));
byId("clear").addEventListener("click", removeAll);
byId("download").addEventListener("click", download);
byId("ask-form").addEventListener("submit", (event) => {
  event.preventDefault();
  if (selected) askAll(byId("asked"), comparedBudgets(model), selected.file, byId("deadline").value);
});
byId("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  useKey(byId("key").value);
  start();
});
document.addEventListener("paste", (event) => add([...event.clipboardData.files]));
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("over");
});
document.addEventListener("dragleave", () => document.body.classList.remove("over"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("over");
  add([...event.dataTransfer.files]);
});
start();
