/* Places of a graph's nodes in the plane: neighbours attract each other, others that are met by lot repel, more and more
   gently, as in UMAP (McInnes, Healy & Melville 2018). */

import { random } from "./chance.js";

const ROUNDS = 120;
const MET = 5; // others that each edge meets
const REACH = 15; // neighbours that attract
const START = 6; // half the width of a random beginning

const held = (value) => Math.min(4, Math.max(-4, value));

/** Float64Array of (x, y) of each node; from `start`, a layout of as many nodes, so that a point can be followed. */
export function layout({ n, keep, neighbours, similarity }, start) {
  const next = random(1);
  const at = start ? Float64Array.from(start) : Float64Array.from({ length: 2 * n }, () => START * (2 * next() - 1));
  const reach = Math.min(REACH, keep);
  const rounds = start ? ROUNDS / 2 : ROUNDS;
  for (let round = 0; round < rounds; round++) {
    const rate = (start ? 0.5 : 1) * (1 - round / rounds);
    for (let i = 0; i < n; i++)
      for (let place = 0; place < reach; place++) {
        if (similarity[i * keep + place] <= 0) continue;
        const j = neighbours[i * keep + place];
        pull(at, i, j, rate);
        if (place % 3) continue; // each third edge is enough to keep others away
        for (let meeting = 0; meeting < MET; meeting++) push(at, i, Math.floor(n * next()), rate);
      }
  }
  return at;
}

function pull(at, i, j, rate) {
  const [x, y] = [at[2 * i] - at[2 * j], at[2 * i + 1] - at[2 * j + 1]];
  const force = (-2 * rate) / (1 + x * x + y * y);
  move(at, i, force * x * 0.5, force * y * 0.5);
  move(at, j, -force * x * 0.5, -force * y * 0.5);
}

function push(at, i, j, rate) {
  if (i === j) return;
  const [x, y] = [at[2 * i] - at[2 * j], at[2 * i + 1] - at[2 * j + 1]];
  const gap = x * x + y * y;
  const force = (2 * rate) / ((0.01 + gap) * (1 + gap));
  move(at, i, held(force * x), held(force * y));
}

function move(at, i, x, y) {
  at[2 * i] += x;
  at[2 * i + 1] += y;
}

/** A layout in the unit square, unstretched. */
export function inSquare(at) {
  const axis = (from) => at.filter((_, i) => i % 2 === from);
  const ends = [0, 1].map((from) =>
    axis(from).reduce(([low, high], v) => [Math.min(low, v), Math.max(high, v)], [Infinity, -Infinity]),
  );
  const span = Math.max(...ends.map(([low, high]) => high - low)) || 1;
  return at.map((v, i) => (v - (ends[i % 2][0] + ends[i % 2][1]) / 2) / span + 0.5);
}
