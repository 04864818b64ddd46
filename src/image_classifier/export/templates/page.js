// Classifies a picture in the browser: decoded, reduced as `pipeline.predict` does, and given to the exported model.
import * as ort from "./ort.wasm.bundle.min.mjs";

const facts = JSON.parse(document.body.dataset.facts);
const [file, camera, video, seen, caption, answer, table] =
  ["file", "camera", "video", "seen", "caption", "answer", "table"].map(id => document.getElementById(id));
const side = seen.width;

ort.env.wasm.numThreads = 1; // more need headers that static servers do not send
const loading = ort.InferenceSession.create("model.onnx");
loading.then(() => { answer.textContent = "Choose a picture." }, error => { answer.textContent = `The model cannot be loaded: ${error.message}` });

// Lanczos' filter of radius 3 over one row of `from` values, for each of `to` places: where it starts, and its weights as
// whole numbers. As Pillow computes it, so that the pixels are the same: https://pillow.readthedocs.io, Image.resize
const ONE = 2 ** 22;
function weights(from, to) {
  const scale = from / to, wide = Math.max(scale, 1), radius = 3 * wide;
  const sinc = x => x ? Math.sin(Math.PI * x) / (Math.PI * x) : 1;
  return Array.from({ length: to }, (_, place) => {
    const centre = (place + 0.5) * scale;
    const start = Math.max(0, Math.trunc(centre - radius + 0.5));
    const end = Math.min(from, Math.trunc(centre + radius + 0.5));
    const raw = Array.from({ length: end - start }, (_, k) => {
      const x = (k + start - centre + 0.5) / wide;
      return Math.abs(x) < 3 ? sinc(x) * sinc(x / 3) : 0;
    });
    const sum = raw.reduce((total, value) => total + value, 0);
    return { start, values: raw.map(value => Math.trunc(value / sum * ONE + (value < 0 ? -0.5 : 0.5))) };
  });
}

// An image, RGBA, with its width or its height reduced to `side`.
function reduced({ data, width, height }, vertically) {
  const from = vertically ? height : width, lines = vertically ? width : height;
  const made = { width: vertically ? width : side, height: vertically ? side : height };
  const [along, across] = vertically ? [4 * width, 4] : [4, 4 * width]; // distances of neighbours in `data`
  const [madeAlong, madeAcross] = vertically ? [4 * width, 4] : [4, 4 * side];
  made.data = new Uint8ClampedArray(4 * made.width * made.height);
  weights(from, side).forEach(({ start, values }, place) => {
    for (let line = 0; line < lines; line++)
      for (let channel = 0; channel < 4; channel++) {
        let sum = ONE / 2;
        for (let k = 0; k < values.length; k++) sum += values[k] * data[line * across + (start + k) * along + channel];
        made.data[line * madeAcross + place * madeAlong + channel] = Math.floor(sum / ONE);
      }
  });
  return made;
}

// What the network gets: upright, on white, stretched to a square, like the training images.
async function prepared(source) {
  const bitmap = await createImageBitmap(source, { colorSpaceConversion: "none" });
  const { width, height } = bitmap;
  const whole = new OffscreenCanvas(width, height).getContext("2d", { alpha: false, willReadFrequently: true });
  whole.fillStyle = "white";
  whole.fillRect(0, 0, width, height);
  whole.drawImage(bitmap, 0, 0);
  // Pillow 13 reduces the height of tall pictures first. The other order may round otherwise.
  const heightFirst = height > side && height - side > 2 * (width - side);
  const square = reduced(reduced(whole.getImageData(0, 0, width, height), heightFirst), !heightFirst);
  return new ImageData(square.data, side);
}

function percent(value) {
  const shown = (100 * value).toFixed(1);
  return value < 1 && shown === "100.0" ? ">99.9%" : value > 0 && shown === "0.0" ? "<0.1%" : `${shown}%`;
}

async function classify(source) {
  const model = await loading;
  let image;
  try {
    image = await prepared(source);
  } catch {
    answer.textContent = "This file is no picture that this browser can read. Choose a JPEG or PNG file.";
    table.replaceChildren();
    return;
  }
  seen.getContext("2d", { willReadFrequently: true }).putImageData(image, 0, 0);
  seen.hidden = false;
  caption.textContent = `What the network sees: ${side} by ${side} pixels`;
  const rgb = image.data.filter((_, index) => index % 4 < 3);
  const images = new ort.Tensor("uint8", new Uint8Array(rgb), [1, side, side, 3]);
  const probabilities = [...(await model.run({ images })).probabilities.data];
  const ranked = probabilities.map((value, number) => [facts.classes[number], value]).sort((a, b) => b[1] - a[1]);
  const unsure = facts.unsure_up_to !== null && ranked[0][1] <= facts.unsure_up_to;
  answer.textContent = unsure ? `Unsure. The best guess: ${ranked[0][0]}` : ranked[0][0];
  table.replaceChildren(...ranked.slice(0, 5).map(([name, value]) => {
    const row = document.createElement("tr"), meter = Object.assign(document.createElement("meter"), { value });
    const cells = [document.createElement("th"), document.createElement("td"), document.createElement("td")];
    cells[0].textContent = name;
    cells[1].append(meter);
    cells[2].textContent = percent(value);
    row.append(...cells);
    return row;
  }));
  table.dataset.probabilities = JSON.stringify(probabilities);
}

async function photograph() {
  if (video.srcObject) {
    const [track] = video.srcObject.getTracks();
    await classify(video);
    track.stop();
    video.srcObject = null;
    video.hidden = true;
    camera.textContent = "Use the camera";
    return;
  }
  try {
    video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
  } catch (error) {
    answer.textContent = `The camera cannot be used: ${error.message}. Allow it, or choose a picture.`;
    return;
  }
  await video.play();
  video.hidden = false;
  seen.hidden = true;
  caption.textContent = answer.textContent = "";
  table.replaceChildren();
  camera.textContent = "Take the picture";
}

file.addEventListener("change", () => file.files.length && classify(file.files[0]));
camera.addEventListener("click", photograph);
for (const example of document.querySelectorAll("#examples button")) {
  example.addEventListener("click", () => classify(example.firstElementChild));
}
addEventListener("dragover", event => event.preventDefault());
addEventListener("drop", event => {
  event.preventDefault();
  if (event.dataTransfer.files.length) classify(event.dataTransfer.files[0]);
});
