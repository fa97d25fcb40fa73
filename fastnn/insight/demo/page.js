"use strict";

const $ = (id) => document.getElementById(id);
const canvas = $("canvas");
const pen = canvas.getContext("2d", { willReadFrequently: true });
let model; // title, classes, height, width, scale
let last = null; // where the pen was; null: it is up
let empty = true;
let waiting = false; // for an answer
let changed = false; // since the last question

async function start() {
  model = await (await fetch("model")).json();
  document.title = `fastnn: ${model.title}`;
  $("title").textContent = model.title;
  canvas.width = model.width * model.scale;
  canvas.height = model.height * model.scale;
  for (const name of model.classes) {
    const item = document.createElement("li");
    for (const part of ["name", "track", "share"]) {
      item.appendChild(document.createElement("div")).className = part;
    }
    item.children[0].textContent = name;
    item.children[1].appendChild(document.createElement("div")).className = "bar";
    $("bars").appendChild(item);
  }
  clear();
}

// ---- drawing

function place(event) {
  const box = canvas.getBoundingClientRect();
  return [((event.clientX - box.left) * canvas.width) / box.width, ((event.clientY - box.top) * canvas.height) / box.height];
}

function stroke(event) {
  const now = place(event);
  pen.lineCap = pen.lineJoin = "round";
  pen.lineWidth = $("pen").value * model.scale;
  pen.strokeStyle = "#fff";
  pen.beginPath();
  pen.moveTo(...(last ?? now));
  pen.lineTo(...now);
  pen.stroke();
  last = now;
  empty = false;
  ask();
}

function clear() {
  pen.fillStyle = "#000";
  pen.fillRect(0, 0, canvas.width, canvas.height);
  last = null;
  empty = true;
  ask();
}

canvas.addEventListener("pointerdown", (event) => {
  canvas.setPointerCapture(event.pointerId);
  last = null;
  stroke(event);
  event.preventDefault();
});
canvas.addEventListener("pointermove", (event) => {
  if (last === null) return;
  for (const step of event.getCoalescedEvents?.() ?? []) stroke(step);
  stroke(event);
});
for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => { last = null; });
$("clear").addEventListener("click", clear);
document.addEventListener("keydown", (event) => { if (event.key === "Escape") clear(); });

// ---- asking: one question at a time, and again if the drawing has changed meanwhile

async function ask() {
  changed = true;
  if (waiting) return;
  waiting = true;
  try {
    while (changed) {
      changed = false;
      const pixels = pen.getImageData(0, 0, canvas.width, canvas.height).data;
      const drawing = new Uint8Array(pixels.length / 4);
      for (let i = 0; i < drawing.length; i++) drawing[i] = pixels[4 * i];
      const blank = empty;
      const response = await fetch("draw", { method: "POST", body: drawing });
      if (!response.ok) throw new Error(response.statusText);
      show(await response.json(), blank);
    }
    $("failure").hidden = true;
  } catch (error) {
    $("failure").textContent = `No answer (${error.message}): is fastnn demo still running?`;
    $("failure").hidden = false;
  } finally {
    waiting = false;
  }
}

function show(answer, blank) {
  const best = answer.probabilities.indexOf(Math.max(...answer.probabilities));
  [...$("bars").children].forEach((item, i) => {
    const share = blank ? 0 : answer.probabilities[i];
    item.className = !blank && i === best ? "best" : "";
    item.querySelector(".bar").style.width = `${100 * share}%`;
    item.querySelector(".share").textContent = blank ? "" : `${(100 * share).toFixed(1)} %`;
  });
  $("verdict").textContent = blank
    ? "Draw, and the model guesses."
    : `I see ${model.classes[best]}: ${(100 * answer.probabilities[best]).toFixed(1)} %`;
  paint($("seen"), answer.image, model.height, model.width);
  const layers = $("layers");
  answer.layers.forEach((layer, i) => {
    const row = layers.children[i] ?? layers.appendChild(rowOf(layer));
    layer.maps.forEach((map, j) => paint(row.querySelectorAll("canvas")[j], map, layer.shape[1], layer.shape[2]));
  });
}

function rowOf(layer) {
  const row = document.createElement("div");
  row.className = "layer";
  const title = row.appendChild(document.createElement("h3"));
  title.textContent = layer.name;
  const size = title.appendChild(document.createElement("span"));
  size.textContent = layer.shape.join("×") + (layer.maps.length < layer.shape[0] ? `, the first ${layer.maps.length}` : "");
  const maps = row.appendChild(document.createElement("div"));
  maps.className = "maps";
  for (const _ of layer.maps) maps.appendChild(document.createElement("canvas"));
  return row;
}

function paint(target, encoded, height, width) {
  const bytes = atob(encoded);
  target.width = width;
  target.height = height;
  const context = target.getContext("2d");
  const image = context.createImageData(width, height);
  for (let i = 0; i < bytes.length; i++) {
    image.data.fill(bytes.charCodeAt(i), 4 * i, 4 * i + 3);
    image.data[4 * i + 3] = 255;
  }
  context.putImageData(image, 0, 0);
}

start().catch((error) => {
  $("failure").textContent = `The page could not start: ${error.message}`;
  $("failure").hidden = false;
});
