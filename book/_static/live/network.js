/* Networks, for the worker of the live laboratory: the runtime and its sessions, images through the layers, and attacks. */

import { PIXELS, step, steps } from "./images.js";
import { free, matrixOf } from "./knn.js";
import { heldOf, keys } from "./settings.js";
import { lay, read, shuffled, untrained } from "./weights.js";

const BATCH = 10; // images that the runtime gets at a time: as quick as more, and its memory never shrinks
const TURN = 5; // images that are attacked at a time
const SEED = 1; // of shuffled and untrained weights

let files, ort, runsOn;
const sessions = new Map(); // by the name of its graph: of products, and on a graphics processor of the network in use
let loaded = {}; // the network in use: {key, pieces, weights, gradient, widths}

/** Loads the runtime once, for `on`: the processor ("cpu") or the graphics processor ("gpu"). */
export async function runtime(on, { manifest, base, files: library }) {
  if (ort && runsOn === on) return;
  if (ort) throw new Error("one worker, one runtime");
  const [module, wasm] = (on === "gpu" ? manifest.runtime.gpu : manifest.runtime).files.map(({ file }) => file);
  if (on === "gpu" && !(await navigator.gpu?.requestAdapter())) throw new Error("this browser offers none");
  files = library;
  const wasmBinary = new Uint8Array(await files.load(wasm)).slice().buffer; // what the browser loads, a script cannot give back
  const products = await files.load(manifest.product.file);
  ort = await import(new URL(module, base).href);
  Object.assign(ort.env.wasm, { wasmBinary, numThreads: 1 });
  ort.env.logLevel = "error";
  runsOn = on;
  await session("product", products); // the first session reads the binary
  wasmBinary.transfer?.(0);
}

async function session(name, graph, weights) {
  if (!sessions.has(name)) {
    const externalData = weights ? [{ path: "weights", data: new Uint8Array(weights.buffer) }] : undefined;
    const executionProviders = runsOn === "gpu" && weights ? ["webgpu", "wasm"] : ["wasm"];
    const options = { executionProviders, externalData, logSeverityLevel: 3 }; // errors
    // Made over for speed, weights would be there twice or three times: those of a gradient are needed as they are, too.
    const lean = { graphOptimizationLevel: "disabled", extra: { session: { disable_prepacking: "1" } } };
    if (name === "gradient" && runsOn === "cpu") Object.assign(options, lean);
    sessions.set(name, await ort.InferenceSession.create(new Uint8Array(graph), options));
  }
  return sessions.get(name);
}

/** A session of the processor's goes when it is not at work: the next one gets its memory, which never shrinks. */
async function leave(...names) {
  for (const name of names) {
    await sessions.get(name)?.release();
    sessions.delete(name);
  }
}

/** The network of a setting, of which the manifest tells `about`: {pieces, weights, gradient, widths}. */
export async function network(about, setting) {
  const { model: key } = keys(setting);
  if (loaded.key === key) return loaded;
  loaded = {}; // two networks at once are not held
  await leave(...[...sessions.keys()].filter((name) => name !== "product"));
  const text = new TextDecoder().decode(await files.load(about.pieces.file));
  const pieces = JSON.parse(text).map((piece) => ({
    ...piece,
    graph: Uint8Array.from(atob(piece.graph), (c) => c.charCodeAt(0)),
  }));
  let weights;
  const file = about.weights[setting.weights === "untrained" ? "untrained" : "trained"]?.file;
  if (!file) weights = untrained(about.tensors, SEED);
  else {
    weights = lay(read(await files.load(file)), about.tensors);
    if (setting.weights === "shuffled") weights = shuffled(weights, about.tensors, setting.share / 100, SEED);
  }
  loaded = { key, pieces, weights, gradient: about.gradient.file, widths: about.widths };
  return loaded;
}

const packed = (list) => {
  const all = new Float32Array(list.length * PIXELS);
  list.forEach((each, i) => all.set(each, i * PIXELS));
  return all;
};

async function run(graph, feeds, output) {
  const given = Object.fromEntries(
    Object.entries(feeds).map(([name, { type, data, dims }]) => [name, new ort.Tensor(type, data, dims)]),
  );
  const found = (await graph.run(given, [output]))[output];
  return { data: await found.getData(), dims: found.dims };
}

/** Batches of images, as a network gets them. */
function* imagesOf(list) {
  for (let from = 0; from < list.length; from += BATCH) {
    const part = list.slice(from, from + BATCH);
    yield { data: packed(part), dims: [part.length, 3, 32, 32] };
  }
}

/** Batches that are there, once. */
function* spent(batches) {
  while (batches.length) yield batches.shift();
}

const rowsOf = ({ data, dims: [n] }) => {
  const m = data.length / n;
  return Array.from({ length: n }, (_, i) => data.subarray(i * m, (i + 1) * m));
};

/** A matrix whose batches are computed again for each part of its columns. */
function parted(batches, n, m, width) {
  const held = new Float32Array(n * width);
  return {
    n,
    m,
    width,
    async columns(from, to) {
      const rows = Array.from({ length: n }, (_, i) => held.subarray(i * width, i * width + to - from));
      let i = 0;
      for await (const batch of batches()) {
        for (const row of rowsOf(batch)) rows[i++].set(row.subarray(from, to));
        free(batch.data);
      }
      return rows;
    },
    end() {
      free(held);
    },
  };
}

/** The features of each layer in turn, a matrix with a row an image, and the logits last. They are the most that the worker
    holds: none is copied, and each batch goes as soon as the next layer has it. A first layer that is wider than all others
    (VGG11's) is computed again and again, cheaply, and never there as a whole. */
export async function* through(net, list, pause) {
  const n = list.length;
  const width = heldOf(net.widths, n);
  let input = () => imagesOf(list);
  for (const piece of net.pieces) {
    const before = input;
    const batches = async function* () {
      const graph = await session(piece.name, piece.graph, net.weights);
      try {
        for await (const batch of before()) {
          const found = await run(graph, { [piece.input]: { type: "float32", ...batch } }, piece.output);
          free(batch.data);
          yield found;
          await pause();
        }
      } finally {
        if (runsOn === "cpu") await leave(piece.name);
      }
    };
    if (piece === net.pieces[0] && net.widths[0] > width) {
      const features = parted(batches, n, net.widths[0], width);
      yield { name: piece.name, features };
      features.end(); // whoever had it may hold it until the next layer is there
      input = batches;
    } else {
      const found = [];
      for await (const batch of batches()) found.push(batch);
      const rows = found.flatMap(rowsOf);
      yield { name: piece.name, features: matrixOf(rows) };
      rows.length = 0; // they would hold the batches
      input = () => spent(found);
    }
  }
}

/** The inner products of the rows a (p, m) with the rows b (r, m). */
export async function product(a, b, m) {
  const feeds = {
    a: { type: "float32", data: a, dims: [a.length / m, m] },
    b: { type: "float32", data: b, dims: [b.length / m, m] },
  };
  return (await run(sessions.get("product"), feeds, "products")).data;
}

/** Images after an attack under labels. */
export async function attacked(net, list, labels, { attack, eps, steps: turns }, pause, told) {
  const graph = await session("gradient", await files.load(net.gradient), net.weights);
  const sizes = steps(attack, eps / 255, turns);
  const changed = [];
  try {
    for (let from = 0; from < list.length; from += TURN) {
      const before = list.slice(from, from + TURN);
      const count = before.length;
      const own = BigInt64Array.from(before, (_, i) => BigInt(labels[from + i]));
      let now = before;
      for (const size of sizes) {
        const feeds = {
          images: { type: "float32", data: packed(now), dims: [count, 3, 32, 32] },
          labels: { type: "int64", data: own, dims: [count] },
        };
        const { data } = await run(graph, feeds, "gradient");
        now = now.map((each, i) => step(each, before[i], data.subarray(i * PIXELS, (i + 1) * PIXELS), size, eps / 255));
        free(data);
        await pause();
      }
      changed.push(...now);
      told(changed.length / list.length);
    }
  } finally {
    if (runsOn === "cpu") await leave("gradient");
  }
  return changed;
}
