/* The reader's own picture: a file, a drop or a photo, brought to 32 x 32 on the page. */

import { SIDE, planes } from "./images.js";
import { button, el, percent, unique } from "./kit.js";

const LARGEST = 40e6; // bytes of a file
const FINE = 8 * SIDE; // pixels across before blocks of 8 x 8 are averaged

/** Pixels of a picture, its middle square, and whether anything in it is transparent. */
function squared(source, width, height) {
  const side = Math.min(width, height);
  const canvas = new OffscreenCanvas(FINE, FINE);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.drawImage(source, (width - side) / 2, (height - side) / 2, side, side, 0, 0, FINE, FINE);
  const { data } = context.getImageData(0, 0, FINE, FINE);
  const rgba = new Float32Array(4 * SIDE * SIDE);
  let clear = false;
  for (let y = 0; y < FINE; y++)
    for (let x = 0; x < FINE; x++) {
      const [from, to] = [4 * (y * FINE + x), 4 * ((y >> 3) * SIDE + (x >> 3))];
      const alpha = data[from + 3] / 255;
      clear ||= alpha < 1;
      for (let c = 0; c < 3; c++) rgba[to + c] += (alpha * data[from + c] + (1 - alpha) * 255) / 64; // before white
    }
  return { pixels: planes(rgba), clear };
}

/** The panel: `take(pixels)` is called with what the reader gives, 3 x 32 x 32 in [0, 1]. */
export function own(take, promise) {
  const id = unique("file");
  const input = el("input", {
    id,
    name: "file",
    type: "file",
    accept: "image/*",
    onchange: () => input.files[0] && read(input.files[0]),
  });
  const note = el("p", { class: "ml-note", role: "status" });
  const error = el("p", { class: "ml-error", role: "alert" });
  const camera = el("div", { class: "ml-camera", hidden: true });
  const photo = button("Take a photo", film);
  photo.hidden = !navigator.mediaDevices?.getUserMedia;
  const found = el("div", { class: "ml-own" });
  const drop = el(
    "div",
    { class: "ml-drop" },
    el("label", { for: id, class: "ml-name" }, "A file, chosen or dropped here"),
    input,
    photo,
  );
  const node = el(
    "section",
    { class: "ml-picture", "aria-label": "Your own picture" },
    el("p", { class: "ml-title" }, "Your own picture"),
    drop,
    camera,
    el("p", { class: "ml-note" }, promise),
    error,
    note,
    found,
  );
  let end = () => {}; // switches the camera off, or takes back the question for it
  drop.addEventListener("dragover", (event) => event.preventDefault());
  drop.addEventListener("drop", (event) => {
    event.preventDefault();
    const [file] = event.dataTransfer.files;
    if (file) read(file);
    else error.textContent = "What was dropped is no file.";
  });

  async function read(file) {
    error.textContent = note.textContent = "";
    if (file.size > LARGEST) {
      error.textContent = `${file.name} has ${Math.round(file.size / 1e6)} MB; up to ${LARGEST / 1e6} MB are read.`;
      return;
    }
    let bitmap;
    try {
      bitmap = await createImageBitmap(file);
    } catch {
      error.textContent = `${file.name} is no picture that this browser can read. Try a JPEG or PNG file.`;
      return;
    }
    const { pixels, clear } = squared(bitmap, bitmap.width, bitmap.height);
    bitmap.close();
    const moving = /gif|webp|apng/.test(file.type) ? " Of a picture that moves, the first frame counts." : "";
    note.textContent = `${file.name}: its middle square, at 32 × 32.${clear ? " What is transparent became white." : ""}${moving}`;
    take(pixels);
  }

  async function film() {
    end();
    error.textContent = "";
    let [stream, wanted] = [null, true];
    const off = () => stream?.getTracks().forEach((track) => track.stop());
    end = () => {
      wanted = false;
      off();
      camera.hidden = true;
      camera.replaceChildren();
    };
    try {
      stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    } catch {
      if (wanted) error.textContent = "There is no camera, or this page may not use it. Choose a file instead.";
      return;
    }
    if (!wanted) return off();
    const video = el("video", { autoplay: true, playsinline: true, "aria-label": "What the camera sees" });
    video.muted = true;
    video.srcObject = stream;
    const leave = () => {
      end();
      photo.focus();
    };
    const now = button("Take it", () => {
      if (!video.videoWidth) return;
      const { pixels } = squared(video, video.videoWidth, video.videoHeight);
      leave();
      note.textContent = "Your photo: its middle square, at 32 × 32.";
      take(pixels);
    });
    camera.replaceChildren(video, now, button("Close the camera", leave));
    camera.hidden = false;
    now.focus();
  }

  const show = (rgba, words) => {
    const canvas = el("canvas", { class: "ml-pixels", role: "img", "aria-label": words, width: SIDE, height: SIDE });
    canvas.getContext("2d").putImageData(new ImageData(new Uint8ClampedArray(rgba), SIDE, SIDE), 0, 0);
    return canvas;
  };

  return {
    node,
    stop: () => end(),
    /** What the network makes of the picture, and of the picture after an attack. */
    show({ before, after, pixels, classes, attack, eps, steps }, network) {
      const ranked = (shares) => [...shares.keys()].sort((a, b) => shares[b] - shares[a]).slice(0, 3);
      const told = (shares) => ranked(shares).map((c) => el("li", {}, `${classes[c]}: ${percent(shares[c])}`));
      const how = `${attack.toUpperCase()}, eps = ${eps}/255${attack === "pgd" ? `, ${steps} steps` : ""}`;
      const side = (words, rgba, shares) =>
        el(
          "div",
          {},
          el("p", { class: "ml-title" }, words),
          show(rgba, `${words}, predicted: ${classes[ranked(shares)[0]]}`),
          el("ol", {}, told(shares)),
        );
      const [guess, other] = [before, after].map((shares) => classes[ranked(shares)[0]]);
      found.replaceChildren(
        side("Your picture", pixels[0], before),
        side(`After ${how}`, pixels[1], after),
        el(
          "p",
          { class: "ml-say", role: "status" },
          `${network} takes your picture for: ${guess} (${percent(Math.max(...before))}). ` +
            (guess === other ? "The attack does not change that." : `After the attack it says: ${other}.`) +
            " In the graph above, the last two images are yours, before and after; they count in no number.",
        ),
      );
    },
  };
}
