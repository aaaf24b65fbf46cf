// The page of the server: photographs go to `/models/NAME/classify`, one after another.
"use strict";

const found = []; // one entry a photograph that has classes, for the table and its CSV
let work = Promise.resolve();
let waiting = 0;

const modelPath = (what) => {
  const [name, version] = $("model").value.split("\n");
  return `/models/${encodeURIComponent(name)}/versions/${encodeURIComponent(version)}/${what}`;
};

async function listModels() {
  const chosen = $("model").value;
  const rows = await (await ask("/v2/repository/index", { method: "POST" })).json();
  const ready = rows.filter((row) => row.state === "READY");
  $("model").replaceChildren(
    ...ready.map(({ name, version }) => {
      const versions = ready.filter((row) => row.name === name).length;
      return new Option(versions > 1 ? `${name}, version ${version}` : name, `${name}\n${version}`);
    }),
  );
  if (chosen) $("model").value = chosen;
  if (ready.length === 0) throw new Error("the server has no model that is ready");
  $("status").textContent = "";
}

/** A place for a photograph's results. */
function addResult(file) {
  const article = $("result").content.firstElementChild.cloneNode(true);
  article.querySelector("h2").textContent = file.name;
  const photo = article.querySelector(".photo");
  photo.src = URL.createObjectURL(file);
  photo.alt = `The photograph ${file.name}`;
  photo.addEventListener("error", () => photo.remove());
  article.querySelector(".why").hidden = true;
  $("results").prepend(article);
  return article;
}

function showClasses(article, classes, milliseconds) {
  const rows = classes.map(({ class: name, probability }) => {
    const row = document.createElement("tr");
    const head = document.createElement("th");
    head.scope = "row";
    head.textContent = name;
    const bar = document.createElement("meter");
    bar.value = probability;
    bar.setAttribute("aria-label", name);
    const [middle, number] = [document.createElement("td"), document.createElement("td")];
    middle.append(bar);
    number.textContent = percent(probability);
    row.append(head, middle, number);
    return row;
  });
  article.querySelector("tbody").replaceChildren(...rows);
  article.querySelector(".detail").textContent = `${Math.round(milliseconds)} ms, with the way there and back`;
}

async function classify(file, article) {
  const model = modelPath("");
  const started = performance.now();
  const body = { method: "POST", body: file, headers: { "content-type": "application/octet-stream" } };
  try {
    const { classes } = await (await ask(`${model}classify?top=5`, body)).json();
    const milliseconds = performance.now() - started;
    showClasses(article, classes, milliseconds);
    found.push({ name: file.name, ...classes[0], milliseconds });
    showOverview();
    const why = article.querySelector(".why");
    why.hidden = false;
    why.firstElementChild.addEventListener("click", () => explain(file, article, model, body));
  } catch (error) {
    const detail = article.querySelector(".detail");
    detail.classList.add("wrong");
    detail.textContent = error.message;
  }
}

/** Shows what of the photograph speaks for its classes. */
async function explain(file, article, model, body) {
  const place = article.querySelector(".explanation");
  const button = article.querySelector(".why button");
  button.disabled = true;
  try {
    const drawing = await (await ask(`${model}explain?top=3`, body)).blob();
    const image = place.querySelector("img");
    image.src = URL.createObjectURL(drawing);
    image.alt = `${file.name} as the network sees it, and again for each class, dark where nothing speaks for it`;
    place.setAttribute("aria-label", `What speaks for the classes of ${file.name}`);
    place.hidden = false;
    button.parentElement.hidden = true;
  } catch (error) {
    $("status").textContent = error.message;
    button.disabled = false;
  }
}

function showOverview() {
  $("overview").hidden = found.length < 2;
  const rows = found.map(({ name, class: best, probability, milliseconds }) => {
    const row = document.createElement("tr");
    for (const text of [name, best, percent(probability), `${Math.round(milliseconds)} ms`]) {
      row.insertCell().textContent = text;
    }
    return row;
  });
  $("rows").replaceChildren(...rows);
}

function take(files) {
  for (const file of files) {
    const article = addResult(file);
    waiting += 1;
    work = work.then(async () => {
      $("status").textContent = `${waiting} to classify`;
      await classify(file, article);
      waiting -= 1;
      $("status").textContent = waiting ? `${waiting} to classify` : "Done";
    });
  }
}

function downloadCsv() {
  const quoted = (text) => `"${String(text).replaceAll('"', '""')}"`;
  const rows = found.map((row) => [quoted(row.name), quoted(row.class), row.probability].join(","));
  const text = ["image,class,probability", ...rows].join("\r\n") + "\r\n";
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
  link.download = "classes.csv";
  link.click();
}

async function drawStructure() {
  if (!$("structure").open) return;
  try {
    const drawing = await (await ask(modelPath("structure"))).blob();
    $("drawing").src = URL.createObjectURL(drawing);
    $("drawing").alt = `The network of ${$("model").selectedOptions[0].text}, stage by stage`;
  } catch (error) {
    $("status").textContent = error.message;
  }
}

for (const input of [$("files"), $("camera")]) {
  input.addEventListener("change", () => {
    take(input.files);
    input.value = "";
  });
}
const drop = $("drop");
for (const event of ["dragenter", "dragover"]) {
  document.addEventListener(event, (drag) => {
    drag.preventDefault();
    drop.classList.add("over");
  });
}
for (const event of ["dragleave", "drop"]) {
  document.addEventListener(event, (drag) => {
    drag.preventDefault();
    drop.classList.remove("over");
  });
}
document.addEventListener("drop", (drag) => take(drag.dataTransfer.files));
document.addEventListener("paste", (paste) => take(paste.clipboardData.files));
$("csv").addEventListener("click", downloadCsv);
$("structure").addEventListener("toggle", drawStructure);
$("model").addEventListener("change", drawStructure);
const list = () => listModels().catch((error) => ($("status").textContent = error.message));
$("token").addEventListener("change", list);
list();
