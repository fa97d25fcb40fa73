"use strict";

const $ = (id) => document.getElementById(id);
const canvas = $("canvas");
const pen = canvas.getContext("2d", { willReadFrequently: true });
let model; // what the server's describe() says
let ground; // the drawing's background colour
let parts = []; // of the drawing, in order: strokes { colour, width, points }, pictures { name, bitmap, answer }
const past = []; // the { ground, parts } before each change
let last = null; // where the pen was; null: it is up
let waiting = false; // for an answer
let changed = false; // since the last question

async function start() {
  model = JSON.parse(await question("model"));
  document.title = `fastnn: ${model.title}`;
  $("title").textContent = model.title;
  $("heading").textContent = `Draw ${model.subject}`;
  const names = model.classes.slice(0, 6).join(", ") + (model.classes.length > 6 ? ", …" : "");
  $("hint").textContent = model.subject === "a digit" ? "Draw a digit here" : `Draw here: ${names}`;
  document.body.classList.toggle("gray", model.channels === 1);
  ground = model.light_on_dark ? "#000000" : "#ffffff";
  $("ground").value = ground;
  $("ink").value = model.light_on_dark ? "#ffffff" : "#000000";
  canvas.width = model.width * model.scale;
  canvas.height = model.height * model.scale;
  for (const name of model.classes) {
    const item = document.createElement("li");
    for (const part of ["name", "track", "share"]) {
      item.appendChild(document.createElement("div")).className = part;
    }
    item.children[0].textContent = item.children[0].title = name;
    item.children[1].appendChild(document.createElement("div")).className = "bar";
    $("bars").appendChild(item);
  }
  redraw();
  ask();
}

// ---- the drawing and its changes

function change(next) {
  past.push({ ground, parts });
  turnTo({ ground, parts, ...next });
}

function undo() {
  if (past.length) turnTo(past.pop());
  ask();
}

function turnTo(state) {
  ({ ground, parts } = state);
  last = null;
  redraw();
}

function clear() {
  if (parts.length) change({ parts: [] });
  ask();
}

function redraw() {
  pen.fillStyle = ground;
  pen.fillRect(0, 0, canvas.width, canvas.height);
  for (const part of parts) {
    if (part.bitmap) pen.drawImage(part.bitmap, 0, 0, canvas.width, canvas.height);
    else part.points.forEach((point, i) => line(part, part.points[Math.max(0, i - 1)], point));
  }
  $("ground").value = ground;
  const [red, green, blue] = [1, 3, 5].map((i) => parseInt(ground.slice(i, i + 2), 16));
  $("hint").classList.toggle("on-dark", 0.3 * red + 0.6 * green + 0.1 * blue < 128);
}

function line(stroke, from, to) {
  pen.lineCap = pen.lineJoin = "round";
  pen.lineWidth = stroke.width;
  pen.strokeStyle = stroke.colour;
  pen.beginPath();
  pen.moveTo(...from);
  pen.lineTo(...to);
  pen.stroke();
}

function begin(place) {
  const width = ($("pen").value * Math.max(canvas.width, canvas.height)) / 28;
  const kept = model.channels === 1 ? parts.filter((part) => !part.bitmap) : parts; // gray has one ink, which would vanish
  change({ parts: [...kept, { colour: $("ink").value, width, points: [] }] });
  go(place);
}

function go(place) {
  const stroke = parts.at(-1);
  stroke.points.push(place);
  line(stroke, last ?? place, place);
  last = place;
  ask();
}

// ---- pointers and keys

function place(event) {
  const box = canvas.getBoundingClientRect();
  return [((event.clientX - box.left) * canvas.width) / box.width, ((event.clientY - box.top) * canvas.height) / box.height];
}

canvas.addEventListener("pointerdown", (event) => {
  if (event.button || !event.isPrimary || !model) return;
  canvas.setPointerCapture(event.pointerId);
  begin(place(event));
});
canvas.addEventListener("pointermove", (event) => {
  if (last === null || !event.buttons || !event.isPrimary) return;
  for (const step of event.getCoalescedEvents?.() ?? []) go(place(step));
  go(place(event));
});
for (const end of ["pointerup", "pointercancel", "blur"]) canvas.addEventListener(end, lift);

function lift() {
  last = null;
  $("point").className = "";
}

const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
let hand = [0.5, 0.5]; // where the keys' pen is, from 0 to 1

canvas.addEventListener("keydown", (event) => {
  const step = STEPS[event.key];
  const there = () => [hand[0] * canvas.width, hand[1] * canvas.height];
  if (step) {
    const far = (event.shiftKey ? 4 : 1) / 28;
    hand = hand.map((at, i) => Math.min(1, Math.max(0, at + far * step[i])));
    if (last !== null) go(there());
  } else if (event.key === " " && !event.repeat) {
    if (last === null) begin(there());
    else last = null;
  } else {
    return;
  }
  event.preventDefault();
  point();
});
canvas.addEventListener("focus", point);

function point() {
  $("point").style.left = `${100 * hand[0]}%`;
  $("point").style.top = `${100 * hand[1]}%`;
  $("point").className = last === null ? "" : "down";
}

$("undo").addEventListener("click", undo);
$("clear").addEventListener("click", clear);
$("ground").addEventListener("change", () => {
  change({ ground: $("ground").value });
  ask();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") clear();
  if ((event.ctrlKey || event.metaKey) && !event.shiftKey && event.key.toLowerCase() === "z") {
    event.preventDefault();
    undo();
  }
});

// ---- pictures: the file itself goes to the server, which prepares it as the training images were

async function take(file) {
  if (!file) return;
  try {
    if (file.size > model.most_bytes) throw new Error(`it has more than ${model.most_bytes >> 20} MB`);
    const answer = JSON.parse(await question("picture", file));
    const bitmap = await createImageBitmap(file).catch(() => painted(document.createElement("canvas"), answer.image));
    change({ parts: [{ name: file.name, bitmap, answer }] });
    ask();
  } catch (error) {
    fail(`${file.name}: ${error.message}`);
  }
}

$("open").addEventListener("click", () => $("file").click());
$("file").addEventListener("change", () => {
  take($("file").files[0]);
  $("file").value = ""; // so that the same one can be chosen again
});
document.addEventListener("paste", (event) => take(event.clipboardData.files[0]));
for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    document.body.classList.toggle("over", kind === "dragover");
    if (kind === "drop") take(event.dataTransfer.files[0]);
  });
}

// ---- asking: one question at a time, and again if the drawing has changed meanwhile

async function question(path, body) {
  const response = await fetch(path, body && { method: "POST", body }).catch((error) => {
    throw new Error(`No answer (${error.message}): is fastnn demo still running?`);
  });
  const text = await response.text();
  if (!response.ok) throw new Error(text || response.statusText);
  return text;
}

async function ask() {
  $("hint").hidden = parts.length > 0;
  $("undo").disabled = !past.length;
  $("clear").disabled = !parts.length;
  changed = true;
  if (waiting) return;
  waiting = true;
  try {
    while (changed) {
      changed = false;
      const asked = parts;
      const [only, ...more] = asked;
      const known = more.length ? null : only?.answer;
      show(known ?? JSON.parse(await question("draw", drawing())), asked.length === 0, known && only.name);
    }
    $("failure").hidden = true;
  } catch (error) {
    fail(error.message);
  } finally {
    waiting = false;
  }
}

function drawing() {
  const pixels = pen.getImageData(0, 0, canvas.width, canvas.height).data;
  const bytes = new Uint8Array((pixels.length / 4) * model.channels);
  for (let i = 0; i < bytes.length; i++) {
    bytes[i] = pixels[4 * Math.floor(i / model.channels) + (i % model.channels)];
  }
  return bytes;
}

function fail(reason) {
  $("failure").textContent = reason;
  $("failure").hidden = false;
}

// ---- what the model makes of it

function show(answer, blank, name) {
  const best = answer.probabilities.indexOf(Math.max(...answer.probabilities));
  [...$("bars").children].forEach((item, i) => {
    const share = blank ? 0 : answer.probabilities[i];
    item.className = !blank && i === best ? "best" : "";
    item.querySelector(".bar").style.width = `${100 * share}%`;
    item.querySelector(".share").textContent = blank ? "" : `${(100 * share).toFixed(1)} %`;
  });
  $("verdict").textContent = blank
    ? "Draw, or open a picture, and the model guesses."
    : `I see ${model.classes[best]}: ${(100 * answer.probabilities[best]).toFixed(1)} %`;
  const how = model.crop ? "cut out, scaled and centred" : `resized to ${model.height}×${model.width}`;
  $("caption").textContent = name
    ? `What the model sees of ${name}${answer.changes && `: ${answer.changes}`}`
    : `What the model sees: ${how} as its training images were`;
  painted($("seen"), answer.image);
  const layers = $("layers");
  answer.layers.forEach((layer, i) => {
    const row = layers.children[i] ?? layers.appendChild(rowOf(layer));
    const targets = row.querySelectorAll("canvas");
    const named = layer === answer.layers.at(-1) && layer.values?.length === model.classes.length;
    if (layer.values) drawBars(targets[0], row.querySelector("span"), layer, named && model.classes);
    else layer.maps.forEach((map, j) => painted(targets[j], map, ...layer.size));
  });
}

function rowOf(layer) {
  const row = document.createElement("div");
  row.className = "layer";
  const title = row.appendChild(document.createElement("h3"));
  title.textContent = layer.name;
  const size = title.appendChild(document.createElement("span"));
  size.textContent = sizeOf(layer);
  const maps = row.appendChild(document.createElement("div"));
  maps.className = "maps";
  maps.role = "img";
  maps.ariaLabel = `${layer.values ? "values" : "feature maps"} of ${layer.name}`;
  for (const _ of layer.maps ?? [0]) maps.appendChild(document.createElement("canvas"));
  if (layer.values) maps.firstChild.className = "bars";
  return row;
}

function sizeOf(layer) {
  const sent = (layer.maps ?? layer.values).length;
  return layer.shape.join("×") + (layer.values ? " values" : "") + (sent < layer.shape[0] ? `, the first ${sent}` : "");
}

function painted(target, encoded, height = model.height, width = model.width) {
  const bytes = atob(encoded);
  const channels = bytes.length / (height * width); // 1 or 3
  target.width = width;
  target.height = height;
  const context = target.getContext("2d");
  const image = context.createImageData(width, height);
  for (let i = 0; i < height * width; i++) {
    for (let c = 0; c < 3; c++) image.data[4 * i + c] = bytes.charCodeAt(channels * i + (c % channels));
    image.data[4 * i + 3] = 255;
  }
  context.putImageData(image, 0, 0);
  return target;
}

function shortened(context, name, width) {
  let text = name;
  for (let n = name.length - 1; n > 0 && context.measureText(text).width > width; n--) text = `${name.slice(0, n)}…`;
  return text;
}

function drawBars(target, about, layer, names) {
  const { values } = layer;
  const [least, most] = [Math.min(...values), Math.max(...values)];
  about.textContent = `${sizeOf(layer)}; from ${least.toPrecision(3)} to ${most.toPrecision(3)}`.replaceAll("-", "−");
  const ratio = devicePixelRatio;
  target.width = target.clientWidth * ratio;
  target.height = target.clientHeight * ratio;
  const context = target.getContext("2d");
  const step = Math.min(target.width / values.length, (names ? 80 : 28) * ratio);
  const gap = step > 4 ? 0.2 * step : 0;
  const room = target.height - (names ? 16 * ratio : 1);
  const unit = room / (Math.max(0, most) - Math.min(0, least) || 1);
  const zero = Math.max(0, most) * unit;
  const style = getComputedStyle(document.documentElement);
  context.font = `${11 * ratio}px system-ui, sans-serif`;
  context.textAlign = "center";
  values.forEach((value, i) => {
    context.fillStyle = style.getPropertyValue(value > 0 ? "--bar" : "--best");
    context.fillRect(i * step, zero, step - gap, -value * unit);
    context.fillStyle = getComputedStyle(target).color;
    if (names) context.fillText(shortened(context, names[i], step - gap), i * step + (step - gap) / 2, target.height - 4 * ratio);
  });
  context.fillStyle = style.getPropertyValue("--axis");
  context.fillRect(0, zero, target.width, 1);
  target.onpointermove = (event) => {
    const i = Math.floor((event.offsetX * ratio) / step);
    target.title = i < values.length ? `${names?.[i] ?? i}: ${values[i]}` : "";
  };
}

start().catch((error) => fail(`The page could not start: ${error.message}`));
