// The page of training runs: `/runs.json` is asked again and again, and what has changed is drawn anew.
"use strict";

const SECONDS = 5; // from one question to the next
const shown = new Map(); // the names of runs that are shown, each with when what is drawn was written
let runs = [];

const short = (number) => (number == null ? "" : Number(number.toPrecision(4)).toString());
const share = (number) => (number == null ? "" : percent(number));

function age(seconds) {
  const units = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const [size, unit] = units.find(([size]) => seconds >= size) || [1, "s"];
  return `${Math.floor(Math.max(seconds, 0) / size)} ${unit} ago`;
}

function rowOf(run) {
  const row = document.createElement("tr");
  const box = document.createElement("input");
  box.type = "checkbox";
  box.checked = shown.has(run.name);
  box.setAttribute("aria-label", `Show ${run.name}`);
  box.addEventListener("change", () => {
    if (box.checked) shown.set(run.name, null);
    else shown.delete(run.name);
    draw();
  });
  row.insertCell().append(box);
  const name = document.createElement("th");
  name.scope = "row";
  name.textContent = run.name;
  row.append(name);
  const { train, validation } = run;
  const when = `${age(Date.now() / 1000 - run.updated)}${run.is_finished ? ", finished" : ""}`;
  const epoch = (train || validation || { epoch: null }).epoch;
  const rate = train && train.images_per_s;
  for (const text of [
    short(epoch), short(train && train.loss), share(train && train.top1), share(validation && validation.top1),
    share(run.best_top1), short(rate), when,
  ]) {
    const cell = row.insertCell();
    cell.className = "number";
    cell.textContent = text;
  }
  return row;
}

/** The table, with the box that has the focus keeping it. */
function drawTable() {
  const focused = document.activeElement && document.activeElement.getAttribute("aria-label");
  $("runs").replaceChildren(...runs.map(rowOf));
  if (focused) document.querySelector(`#runs [aria-label="${CSS.escape(focused)}"]`)?.focus();
}

/** The keys in which the recipes of the shown runs differ. */
function drawDifferences() {
  const compared = runs.filter((run) => shown.has(run.name));
  const keys = new Set(compared.flatMap((run) => Object.keys(run.recipe)));
  const differing = [...keys].sort().filter((key) => new Set(compared.map((run) => run.recipe[key])).size > 1);
  $("differences").hidden = compared.length < 2;
  const head = (text, scope) => {
    const cell = document.createElement("th");
    cell.scope = scope;
    cell.textContent = text;
    return cell;
  };
  const names = document.createElement("tr");
  names.append(head("Key", "col"), ...compared.map((run) => head(run.name, "col")));
  $("compared").replaceChildren(names);
  const rows = differing.map((key) => {
    const row = document.createElement("tr");
    row.append(head(key, "row"));
    for (const run of compared) row.insertCell().textContent = run.recipe[key] ?? "";
    return row;
  });
  if (rows.length === 0) {
    const row = document.createElement("tr");
    row.insertCell().textContent = "No key differs";
    rows.push(row);
  }
  $("keys").replaceChildren(...rows);
}

/** A drawing of a run in its place, or nothing where there is none. */
async function drawInto(image, path, alt) {
  const drawing = await (await ask(path)).blob();
  const before = image.src;
  image.src = URL.createObjectURL(drawing);
  image.alt = alt;
  image.parentElement.setAttribute("aria-label", alt);
  image.parentElement.hidden = false;
  if (before) URL.revokeObjectURL(before);
}

function articleOf(name) {
  const known = [...$("shown").children].find((article) => article.dataset.run === name);
  if (known) return known;
  const article = $("run").content.firstElementChild.cloneNode(true);
  article.dataset.run = name;
  article.querySelector("h2").textContent = name;
  for (const image of article.querySelectorAll("img")) image.parentElement.setAttribute("aria-label", name);
  $("shown").append(article);
  return article;
}

async function drawRun(run) {
  const article = articleOf(run.name);
  const detail = article.querySelector(".detail");
  detail.textContent = run.problem || run.recipe["model.architecture"] || "";
  detail.classList.toggle("wrong", Boolean(run.problem));
  if (shown.get(run.name) === run.updated) return;
  shown.set(run.name, run.updated);
  const at = `/runs/${encodeURIComponent(run.name)}`;
  await drawInto(article.querySelector(".curves"), `${at}/curves`, `Loss, accuracy and learning rate of ${run.name}`);
  if (run.has_confusion) {
    await drawInto(article.querySelector(".confusion"), `${at}/confusion`, `What ${run.name} takes each class for`);
  }
}

async function draw() {
  drawTable();
  drawDifferences();
  for (const article of [...$("shown").children]) {
    if (!shown.has(article.dataset.run)) article.remove();
  }
  for (const run of runs.filter((run) => shown.has(run.name))) {
    await drawRun(run).catch((error) => ($("status").textContent = error.message));
  }
}

async function update() {
  try {
    const isFirst = runs.length === 0;
    runs = await (await ask("/runs.json")).json();
    if (isFirst && runs.length > 0) shown.set(runs[0].name, null);
    $("status").textContent = runs.length > 0 ? "" : "The folder has no run yet";
    await draw();
  } catch (error) {
    $("status").textContent = error.message;
  }
}

$("token").addEventListener("change", update);
setInterval(() => {
  if (!document.hidden) update();
}, 1000 * SECONDS);
update();
