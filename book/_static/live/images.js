/* What is done to images: pixels in [0, 1], channel by channel, 32 x 32. */

import { normal, random } from "./chance.js";

export const SIDE = 32;
const PLANE = SIDE * SIDE;
export const PIXELS = 3 * PLANE;

const clip = (value) => Math.min(1, Math.max(0, value));

/** Pixels of a picture's RGBA bytes. */
export function planes(rgba) {
  const pixels = new Float32Array(PIXELS);
  for (let i = 0; i < PLANE; i++) for (let c = 0; c < 3; c++) pixels[c * PLANE + i] = rgba[4 * i + c] / 255;
  return pixels;
}

/** RGBA bytes of pixels. */
export function bytes(pixels) {
  const rgba = new Uint8ClampedArray(4 * PLANE).fill(255);
  for (let i = 0; i < PLANE; i++) for (let c = 0; c < 3; c++) rgba[4 * i + c] = Math.round(255 * pixels[c * PLANE + i]);
  return rgba;
}

/** The convolution of each row and column with a bell of `sigma` pixels, cut at three of them; edges go on. */
function blur(pixels, sigma) {
  const reach = Math.floor(3 * sigma + 0.5);
  const bell = Array.from({ length: 2 * reach + 1 }, (_, i) => Math.exp(-((i - reach) ** 2) / (2 * sigma * sigma)));
  const whole = bell.reduce((sum, each) => sum + each, 0);
  let from = Float64Array.from(pixels);
  for (const [along, across] of [
    [SIDE, 1],
    [1, SIDE],
  ]) {
    const to = new Float64Array(PIXELS);
    for (let c = 0; c < 3; c++)
      for (let a = 0; a < SIDE; a++)
        for (let b = 0; b < SIDE; b++) {
          let sum = 0;
          for (let s = -reach; s <= reach; s++) {
            const at = Math.min(SIDE - 1, Math.max(0, a + s));
            sum += bell[s + reach] * from[c * PLANE + at * along + b * across];
          }
          to[c * PLANE + a * along + b * across] = sum / whole;
        }
    from = to;
  }
  return Float32Array.from(from);
}

/** What can happen to an image: its name, what its strength means, and the image after it. `id` is the image's number. */
export const CORRUPTIONS = {
  none: { words: "none", apply: (pixels) => pixels },
  noise: {
    words: "noise",
    say: (strength) => `standard deviation ${(strength * 0.04).toFixed(2)} of the range of a value`,
    apply(pixels, strength, id) {
      const next = normal(random(id));
      return pixels.map((value) => clip(value + strength * 0.04 * next()));
    },
  },
  blur: {
    words: "blur",
    say: (strength) => `a bell of ${(strength * 0.4).toFixed(1)} pixels`,
    apply: (pixels, strength) => blur(pixels, strength * 0.4),
  },
  brightness: {
    words: "brightness",
    say: (strength) => `${(strength * 0.1).toFixed(1)} added to each value`,
    apply: (pixels, strength) => pixels.map((value) => clip(value + strength * 0.1)),
  },
};

/** One step of an attack: from `now` along the sign of the gradient, back into the ball of `eps` around `before` and into
    [0, 1]. Rounded as float32 is at each turn, so that it goes where modlib's goes. */
export function step(now, before, gradient, size, eps) {
  const [far, most] = [Math.fround(size), Math.fround(eps)];
  return now.map((value, i) => {
    const moved = Math.fround(Math.fround(value + far * Math.sign(gradient[i])) - before[i]);
    return clip(Math.fround(before[i] + Math.min(most, Math.max(-most, moved))));
  });
}

/** Sizes of an attack's steps: FGSM takes one, PGD several that together could go 2.5 times as far (Madry et al. 2018). */
export const steps = (attack, eps, count) => (attack === "fgsm" ? [eps] : new Array(count).fill((2.5 * eps) / count));
