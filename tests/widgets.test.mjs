// The computing half of the widgets, in node: `node --test tests/widgets.test.mjs`. GRAPHS names a file of random
// graphs with what networkx says of them, FEATURES one of feature vectors with what modlib does (tests/test_widgets.py
// writes both).
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";

import {
  among,
  cosines,
  cosinesOf,
  edgesOf,
  joined,
  matrixOf,
  nearestOf,
  sameShare,
} from "../book/_static/live/knn.js";
import { alike, curve, fit, paperCurve } from "../modlib/book/widgets/explorer.js";
import { countWords, open, shade } from "../modlib/book/widgets/graph.js";
import { fixed, mark, percent, unpack } from "../modlib/book/widgets/kit.js";
import {
  modularity,
  pairTerm,
  readEdges,
  readGroups,
  writeEdges,
  writeGroups,
} from "../modlib/book/widgets/lab.js";
import { modularityOf } from "../modlib/book/widgets/modularity.js";

const near = (got, wanted) => assert.ok(Math.abs(got - wanted) < 1e-9, `${got}, not ${wanted}`);

test("modularity, its terms and the terms of all pairs are those of networkx", { skip: !process.env.GRAPHS }, () => {
  const graphs = JSON.parse(readFileSync(process.env.GRAPHS));
  assert.ok(graphs.length >= 20);
  for (const { n, edges, groups, q, terms } of graphs) {
    const weights = new Map(edges.map(([i, j, w]) => [`${i}-${j}`, w]));
    const got = modularity(n, weights, groups);
    near(got.q, q);
    terms.forEach((term, c) => near(got.terms[c].term, term));
    let sum = 0;
    for (let i = 0; i < n; i++)
      for (let j = 0; j < n; j++) if (groups[i] === groups[j]) sum += pairTerm(got, weights, i, j);
    near(sum / got.twoW, q);
  }
});

test("a loop is one entry of the adjacency", () => {
  const loops = new Map([
    ["0-0", 2],
    ["0-1", 1],
  ]);
  const got = modularity(2, loops, [0, 1]); // a = [[2, 1], [1, 0]], 2W = 4, s = (3, 1)
  assert.deepEqual([got.twoW, got.strength], [4, [3, 1]]);
  near(got.q, 2 / 4 - 9 / 16 - 1 / 16);
  near(pairTerm(got, loops, 0, 0), 2 - 9 / 4);
});

test("an address says the same graph that it was written from", () => {
  const edges = new Map([
    ["0-1", 1],
    ["1-3", 2.5],
    ["0-2", 0],
  ]);
  assert.deepEqual(
    readEdges(writeEdges(edges), 4),
    new Map([
      ["0-1", 1],
      ["1-3", 2.5],
    ]),
  );
  assert.deepEqual(readEdges(writeEdges(new Map()), 4), new Map());
  assert.deepEqual(readGroups(writeGroups([0, 2, 1]), 3), [0, 2, 1]);
});

test("an address that makes no sense does no harm", () => {
  assert.deepEqual(
    readEdges("3-1_9-1_2-2_x_1-0*-4_0-2*3", 4),
    new Map([
      ["1-3", 1],
      ["2-2", 1],
      ["0-2", 3],
    ]),
  );
  assert.equal(readGroups("AB", 3), null);
  assert.equal(readGroups("ab!", 3), null);
});

test("numbers are written with a true minus, and zero without one", () => {
  assert.equal(fixed(-0.1234), "−0.123");
  assert.equal(fixed(-0.0001), "0.000");
  assert.equal(fixed(0.5, 1), "0.5");
});

test("what is no number is said to be none", () => {
  for (const none of [NaN, undefined, null, Infinity]) {
    assert.equal(fixed(none), "not defined");
    assert.equal(percent(none), "not defined");
  }
});

test("twelve communities have twelve marks", () => {
  const marks = Array.from({ length: 12 }, (_, c) => `${c % 6} ${mark(c, 10)}`);
  assert.equal(new Set(marks).size, 12);
});

// The modularity explorer

const series = (more) => ({
  model: "a",
  dataset: "d",
  weights: "trained",
  attack: "none",
  n: [200, 500],
  k: [1, 3, 5],
  epochs: [],
  layers: ["x", "y", "z"],
  readings: { conv: [0, 2], relu: [1] },
  mean: Array.from({ length: 18 }, (_, i) => i / 100),
  std: null,
  ...more,
});

test("a curve is found at its place in the table", () => {
  const at = (n, k, reading, epoch) => curve(series(), { n, k, reading, epoch });
  assert.deepEqual(at(200, 1, "conv").q, [0, 0.02]);
  assert.deepEqual(at(500, 3, "conv"), { q: [0.12, 0.14], std: null, layers: ["x", "z"] });
  assert.deepEqual(at(500, 5, "relu").q, [0.16]);
  assert.equal(at(500, 4, "conv"), null);
  assert.equal(curve(series({ readings: { conv: [0] } }), { n: 200, k: 1, reading: "relu" }), null);
  assert.equal(at(200, 1, "constructor"), null); // which every object has
  assert.deepEqual(
    alike([series()], { model: "a", dataset: "d", weights: "trained", attack: "none", reading: "toString" }),
    [],
  );
  const epochs = series({
    n: [500],
    k: [3],
    epochs: [1, 2, 4],
    mean: [1, 2, 3, 4, 5, 6, 7, 8, 9],
    std: [9, 8, 7, 6, 5, 4, 3, 2, 1],
  });
  assert.deepEqual(curve(epochs, { n: 500, k: 3, reading: "conv", epoch: 4 }).q, [7, 9]);
  assert.deepEqual(curve(epochs, { n: 500, k: 3, reading: "conv", epoch: 2 }).std, [6, 4]);
  assert.equal(curve(epochs, { n: 500, k: 3, reading: "conv", epoch: 3 }), null);
});

test("packed numbers come out as they went in", () => {
  assert.deepEqual(unpack("AAABAP//ECfw2A==", "i2", 0.5), [0, 0.5, -0.5, 5000, -5000]);
  assert.deepEqual(unpack("AAABAP//", "u2", 1), [0, 1, 65535]);
  assert.deepEqual(unpack("AAH/", "u1", 2), [0, 2, 510]);
});

test("a setting that does not exist gives way, later parts first", () => {
  const all = [
    series(),
    series({ weights: "untrained" }),
    series({ model: "b", weights: "untrained", readings: { conv: [0] } }),
  ];
  const asked = { model: "a", dataset: "d", weights: "untrained", attack: "none", reading: "relu" };
  assert.deepEqual(fit(all, asked), asked);
  assert.deepEqual(fit(all, { ...asked, model: "b" }), { ...asked, model: "b", reading: "conv" });
  assert.deepEqual(fit(all, { ...asked, weights: "x", attack: "pgd" }), { ...asked, weights: "trained" });
  assert.equal(alike(all, asked).length, 1);
});

test("the paper's curve stands beside trained networks only, read as in the paper", () => {
  const paper = { "a d none 500 3": { figure: "Fig. 4", q: [1] } };
  const asked = {
    model: "a",
    dataset: "d",
    weights: "trained",
    attack: "none",
    n: 500,
    k: 3,
    reading: "conv",
    last: true,
  };
  assert.equal(paperCurve(paper, asked).figure, "Fig. 4");
  for (const other of [
    { weights: "untrained" },
    { reading: "relu" },
    { k: 5 },
    { n: 200 },
    { attack: "pgd" },
    { last: false },
  ]) {
    assert.equal(paperCurve(paper, { ...asked, ...other }), null);
  }
});

// The k-NN graph explorer

test("neighbours, agreement and terms stand at their places", () => {
  const u2 = (...numbers) => Buffer.from(new Uint16Array(numbers).buffer).toString("base64");
  const version = {
    neighbours: u2(1, 2, 0, 65535, 65535, 65535, 2, 1, 2, 0, 0, 1), // two layers, three images, k = 2
    at: u2(0, 65535, 0, 0, 0, 0, 65535, 0, 0, 0, 0, 0),
    terms: u2(10, 20, 30, 40, 50, 60, 70, 80),
  };
  const table = open(version, { n: 3, labels: [0, 0, 1], layers: ["a", "b"], classes: ["x", "y"], k: 2 });
  assert.deepEqual(table.near(0, 0, 2), [1, 2]);
  assert.deepEqual(table.near(0, 0, 1), [1]);
  assert.deepEqual(table.near(0, 1, 2), [0]);
  assert.deepEqual(table.near(1, 2, 2), [0, 1]);
  assert.equal(table.agreement(0, 0, 2), 0.5);
  assert.equal(table.agreement(1, 2, 1), 0);
  assert.equal(table.agreement(0, 2, 2), null);
  assert.deepEqual(table.place(0, 0), [0, 1]);
  assert.deepEqual(table.place(1, 0), [1, 0]);
  near(table.term(0, 2, 1), 40e-4);
  near(table.term(1, 1, 0), 50e-4);
  near(table.largest, 0.01);
});

test("agreement runs from orange over grey to blue", () => {
  assert.deepEqual([0, 0.5, 1].map(shade), ["rgb(213,94,0)", "rgb(190,190,190)", "rgb(0,114,178)"]);
});

test("neighbours are counted in whole sentences", () => {
  assert.equal(countWords(1, 1), "its one neighbour in this layer is of its class");
  assert.equal(countWords(0, 1), "its one neighbour in this layer is not of its class");
  assert.equal(countWords(0, 0), "it has no neighbour in this layer");
  assert.equal(countWords(1, 3), "1 of its 3 neighbours in this layer is of its class");
  assert.equal(countWords(2, 3), "2 of its 3 neighbours in this layer are of its class");
});

// k-NN and Q of the live laboratory

const rowsOf = (x, m) => Array.from({ length: x.length / m }, (_, i) => Float32Array.from(x.slice(i * m, (i + 1) * m)));
const features = (x, m) => matrixOf(rowsOf(x, m));
/** The same features, a few of their numbers at a time, each time in the same place. */
function inParts(x, m, width) {
  const rows = rowsOf(x, m);
  const held = rows.map(() => new Float32Array(width));
  const columns = async (from, to) =>
    rows.map((row, i) => {
      held[i].set(row.subarray(from, to));
      return held[i].subarray(0, to - from);
    });
  return { n: rows.length, m, width, columns };
}
const file = (name) => JSON.parse(readFileSync(process.env[name]));

test(
  "graphs and modularities are those of modlib, ties and dead rows included",
  { skip: !process.env.FEATURES },
  async () => {
    for (const { n, m, x, k, labels, neighbours, weights, q, same } of file("FEATURES")) {
      const all = n - 1;
      const parts = [1, Math.ceil(m / 2), Math.max(1, m - 1)].map((width) => [inParts(x, m, width), k]);
      for (const [matrix, keep] of [[features(x, m), k], [features(x, m), all], ...parts]) {
        const edges = edgesOf(await nearestOf(matrix, keep), k);
        assert.ok(Math.abs(modularityOf(n, edges, labels).q - q) < 1e-6); // weights are float32
        near(sameShare(edges, labels), same);
        edges.target.forEach((j, e) => edges.weight[e] && assert.equal(j, neighbours[e]));
        edges.weight.forEach((w, e) => assert.ok(Math.abs(w - weights[e]) < 2e-6));
      }
    }
  },
);

test("a similarity of zero or below makes no edge, and k may be as large as it gets", async () => {
  const graph = await nearestOf(features([1, 0, 1, 0, 0, 1, -1, 0], 2), 3);
  assert.deepEqual([...edgesOf(graph, 3).weight], [1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
  assert.deepEqual([...edgesOf(graph, 1).target], [1, 0, 0, 2]); // equal ones in order of index
  near(modularityOf(4, edgesOf(graph, 3), [0, 0, 1, 1]).q, 0);
  assert.ok(Number.isNaN(modularityOf(2, edgesOf(await nearestOf(features([1, -1], 1), 1), 1), [0, 1]).q));
});

test("part of a graph that ranks all others is the graph of the part; a joined node takes its place", async () => {
  const rows = rowsOf(
    Float32Array.from({ length: 40 * 5 }, (_, i) => Math.sin(3 * i * i)),
    5,
  );
  const whole = await nearestOf(matrixOf(rows), 39);
  const chosen = [0, 3, 4, 11, 17, 20, 38];
  const own = chosen.map((i) => rows[i]);
  const part = among(whole, chosen);
  assert.deepEqual(part.neighbours, (await nearestOf(matrixOf(own), 6)).neighbours);
  const front = await nearestOf(matrixOf(rows.slice(0, 39)), 38);
  const [last] = await cosinesOf(matrixOf(rows), [39]);
  (await cosines(matrixOf(rows))).similar
    .slice(39 * 40)
    .forEach((value, j) => assert.ok(j === 39 || Math.abs(value - last[j]) < 1e-6));
  assert.deepEqual(joined(front, [last], 9).neighbours, (await nearestOf(matrixOf(rows), 9)).neighbours);
});
