/* The computing half of the live laboratory: images through a network, layer by layer; the graph of each layer; Q.
   It hears {kind: "start" | "set" | "picture", ticket, ...} and answers with progress, layers, results and errors, each with
   the ticket it belongs to. A later ticket stops what is under way. */

import { library, Lost } from "./files.js";
import { CORRUPTIONS, PIXELS, bytes, planes, step, steps } from "./images.js";
import { among, edgesOf, joined, lengths, multiply, nearestOf } from "./knn.js";
import { inSquare, layout } from "./layout.js";
import { modularityOf, sameShare } from "./modularity.js";
import { LEAST, attacks, grouping, keys, needed, sequence, sizesIn } from "./settings.js";
import { lay, read, shuffled, untrained } from "./weights.js";

const BATCH = 25;
const KEPT = 100; // neighbours that are kept of more images
const REACH = 20; // neighbours that the picture of the graph can show
const SEED = 1; // of shuffled and untrained weights
const RESULTS = 4; // that are kept: 15 MB each for ten layers of 500 images
const SMALL = { attack: "pgd", eps: 4, steps: 10 }; // what is done to a picture of the reader's where no attack is chosen

class Stopped extends Error {}

let base, manifest, networks, files, ort, runsOn;
let latest = 0; // the ticket that counts
const sessions = new Map(); // of the network in use, by the name of its graph
let loaded = {}; // the network in use: {key, places, weights}
const results = new Map(); // features' key -> {ids, graphs, predicted, right}

const say = (ticket, message) => postMessage({ ticket, ...message });

/** Lets messages in; stops work whose ticket no longer counts. */
function pauseFor(ticket) {
  let last = performance.now();
  return async () => {
    if (performance.now() - last > 30) {
      await new Promise((resolve) => {
        const { port1, port2 } = new MessageChannel();
        port1.onmessage = resolve;
        port2.postMessage(null);
      });
      last = performance.now();
    }
    if (ticket !== latest) throw new Stopped();
  };
}

// What is fetched

async function runtime(on) {
  if (ort && runsOn === on) return;
  if (ort) throw new Error("one worker, one runtime");
  const [module, wasm] = (on === "gpu" ? manifest.runtime.gpu : manifest.runtime).files.map(({ file }) => file);
  if (on === "gpu" && !(await navigator.gpu?.requestAdapter())) throw new Error("this browser offers none");
  const binary = await files.load(wasm);
  ort = await import(new URL(module, base).href);
  ort.env.wasm.wasmBinary = binary;
  ort.env.wasm.numThreads = 1;
  ort.env.logLevel = "error";
  runsOn = on;
}

async function session(name, graph, weights) {
  if (!sessions.has(name)) {
    const externalData = weights ? [{ path: "weights", data: new Uint8Array(weights.buffer) }] : undefined;
    const executionProviders = runsOn === "gpu" && weights ? ["webgpu", "wasm"] : ["wasm"];
    const options = { executionProviders, externalData, logSeverityLevel: 3 }; // errors
    sessions.set(name, await ort.InferenceSession.create(new Uint8Array(graph), options));
  }
  return sessions.get(name);
}

async function network(setting) {
  const { model: key } = keys(setting);
  if (loaded.key === key) return loaded;
  const about = networks.get(setting.network);
  for (const [name, each] of sessions) if (name !== "product") await each.release().then(() => sessions.delete(name));
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
  loaded = { key, pieces, weights, gradient: about.gradient.file };
  return loaded;
}

const pixels = new Map(); // image -> its pixels as stored
let truth; // class of each image of the pool

/** Cuts a mosaic into images, and holds their bytes against the sum that the book's build told. */
async function cut({ file, first, count, columns, sum }) {
  const blob = new Blob([await files.load(file)], { type: "image/webp" });
  const picture = await createImageBitmap(blob, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  const context = new OffscreenCanvas(picture.width, picture.height).getContext("2d", { willReadFrequently: true });
  context.drawImage(picture, 0, 0);
  let [found, place] = [0, 1];
  for (let i = 0; i < count; i++) {
    const each = planes(context.getImageData(32 * (i % columns), 32 * Math.floor(i / columns), 32, 32).data);
    for (const value of each) found = (found + Math.round(255 * value) * place++) % 2 ** 32;
    pixels.set(first + i, each);
  }
  if (found !== sum)
    throw new Error("this browser changes the pictures that it decodes, perhaps against being recognised");
}

async function stored(ids) {
  for (const part of manifest.images.parts)
    if (!pixels.has(part.first) && ids.some((id) => id >= part.first && id < part.first + part.count)) await cut(part);
  return ids.map((id) => pixels.get(id));
}

// What is computed

const rows = (list) => {
  const all = new Float32Array(list.length * PIXELS);
  list.forEach((each, i) => all.set(each, i * PIXELS));
  return all;
};

async function run(graph, feeds, output) {
  const given = Object.fromEntries(
    Object.entries(feeds).map(([name, { type, data, dims }]) => [name, new ort.Tensor(type, data, dims)]),
  );
  const found = (await graph.run(given, [output]))[output];
  const copy = { data: await found.getData(), dims: found.dims };
  return copy;
}

/** The features of each layer in turn, (n, m), and the logits last; none is kept. */
async function* through(net, list, pause) {
  let x = { data: rows(list), dims: [list.length, 3, 32, 32] };
  for (const piece of net.pieces) {
    const graph = await session(piece.name, piece.graph, net.weights);
    const width = x.data.length / list.length;
    let out = null;
    for (let from = 0; from < list.length; from += BATCH) {
      const to = Math.min(from + BATCH, list.length);
      const part = {
        type: "float32",
        data: x.data.subarray(from * width, to * width),
        dims: [to - from, ...x.dims.slice(1)],
      };
      const { data, dims } = await run(graph, { [piece.input]: part }, piece.output);
      const each = data.length / (to - from);
      out ??= { data: new Float32Array(list.length * each), dims: [list.length, ...dims.slice(1)] };
      out.data.set(data, from * each);
      await pause();
    }
    x = out;
    yield { name: piece.name, m: x.data.length / list.length, data: x.data };
  }
}

async function product(a, b, m) {
  const graph = await session("product", await files.load(manifest.product.file));
  const feeds = {
    a: { type: "float32", data: a, dims: [a.length / m, m] },
    b: { type: "float32", data: b, dims: [b.length / m, m] },
  };
  return (await run(graph, feeds, "products")).data;
}

function most(values, from, count) {
  let best = from;
  for (let i = from; i < from + count; i++) if (values[i] > values[best]) best = i;
  return best - from;
}

const classesOf = ({ data, m }) => Int32Array.from({ length: data.length / m }, (_, i) => most(data, i * m, m));

/** Graphs of all layers and predicted classes of images, each given out as soon as it is there. */
async function compute(net, list, keep, pause, told) {
  const graphs = [];
  let predicted = null;
  for await (const layer of through(net, list, pause)) {
    if (layer.name === "logits") predicted = classesOf(layer);
    else {
      graphs.push(await nearestOf(layer.data, list.length, layer.m, keep, product, pause));
      told(graphs.length - 1, graphs.at(-1));
    }
  }
  return { graphs, predicted };
}

/** Images after an attack under labels. */
async function attacked(net, list, labels, { attack, eps, steps: count }, pause, told) {
  const graph = await session("gradient", await files.load(net.gradient), net.weights);
  const sizes = steps(attack, eps / 255, count);
  const changed = [];
  for (let from = 0; from < list.length; from += BATCH) {
    const before = list.slice(from, from + BATCH);
    let now = before;
    for (const size of sizes) {
      const labelled = {
        type: "int64",
        data: BigInt64Array.from(before, (_, i) => BigInt(labels[from + i])),
        dims: [before.length],
      };
      const feeds = {
        images: { type: "float32", data: rows(now), dims: [before.length, 3, 32, 32] },
        labels: labelled,
      };
      const { data } = await run(graph, feeds, "gradient");
      now = now.map((each, i) => step(each, before[i], data.subarray(i * PIXELS, (i + 1) * PIXELS), size, eps / 255));
      await pause();
    }
    changed.push(...now);
    told(changed.length / list.length);
  }
  return changed;
}

/** Neighbours that are ranked: all of few images, so that any k and any part of them can be had from them. */
const keepOf = (n, k) => (n <= LEAST ? n - 1 : Math.min(n - 1, Math.max(KEPT, k)));

/** Where images stand in a result, in rising order, or null if it does not answer for them. */
function places(result, ids, k) {
  if (!result) return null;
  const at = new Map(result.ids.map((id, i) => [id, i]));
  const found = ids.map((id) => at.get(id));
  if (found.some((place, i) => place === undefined || (i && place <= found[i - 1]))) return null;
  const all = found.length === result.ids.length;
  return (all && result.graphs[0].keep >= k) || result.graphs[0].keep === result.ids.length - 1 ? found : null;
}

const part = (result, chosen) => ({
  ids: chosen.map((i) => result.ids[i]),
  graphs: chosen.length === result.ids.length ? result.graphs : result.graphs.map((graph) => among(graph, chosen)),
  predicted: Int32Array.from(chosen, (i) => result.predicted[i]),
  images: result.images && chosen.map((i) => result.images[i]),
});

function keep(key, result) {
  results.delete(key);
  results.set(key, result);
  if (results.size > RESULTS) results.delete(results.keys().next().value);
  return result;
}

/** Q of one layer under groups of the true and of the predicted classes, and the share of edges within the former. */
function reading(graph, k, labels, guesses) {
  const edges = edgesOf(graph, Math.min(k, graph.keep));
  const q = (of) => (new Set(of).size > 1 ? modularityOf(graph.n, edges, of).q : NaN);
  return { q: q(labels), predicted: guesses ? q(guesses) : null, same: sameShare(edges, labels) };
}

async function corrupted(setting, ids) {
  const { apply } = CORRUPTIONS[setting.corruption];
  return (await stored(ids)).map((each, i) => apply(each, setting.strength, ids[i]));
}

/** Everything about the sample of a setting: {groups, labels, clean, attacked or null, chosen}. */
async function sample(setting, ticket) {
  const pause = pauseFor(ticket);
  const [{ classes }, pool] = [manifest.images, truth];
  const groups = grouping(setting.groups, classes);
  const all = sequence(setting, { classes, pool });
  const ids = all.slice(0, setting.n);
  const scope = ` ${setting.draw} ${groups.of.map((group) => (group < 0 ? "-" : "+")).join("")}`; // which images there are
  const { clean: before, attacked: behind } = keys(setting);
  const key = { clean: before + scope, attacked: behind + scope };
  const depth = networks.get(setting.network).layers.length;
  const labelsOf = (list) => list.map((id) => groups.of[pool[id]]);
  const tell = (of, list, chosen) => (layer, graph) => {
    const seen = chosen ? among(graph, chosen) : graph;
    const shown = chosen ? chosen.map((i) => list[i]) : list;
    say(ticket, { kind: "layer", of, layer, depth, n: shown.length, ...reading(seen, setting.k, labelsOf(shown)) });
  };

  let found = places(results.get(key.clean), ids, setting.k);
  if (!found) {
    const wanted = setting.n < LEAST ? all.slice(0, LEAST) : ids;
    say(ticket, { kind: "progress", words: "Reading the images", share: null });
    const list = await corrupted(setting, wanted);
    const net = await network(setting);
    const chosen = setting.n < wanted.length ? ids.map((_, i) => i) : null;
    const told = tell("clean", wanted, chosen);
    const computed = await compute(net, list, keepOf(wanted.length, setting.k), pause, told);
    keep(key.clean, { ids: wanted, ...computed });
    found = places(results.get(key.clean), ids, setting.k);
  } else keep(key.clean, results.get(key.clean));
  let clean = part(results.get(key.clean), found);

  let after = null;
  if (attacks(setting)) {
    found = places(results.get(key.attacked), ids, setting.k);
    if (!found) {
      const net = await network(setting);
      const list = await corrupted(setting, ids);
      const share = (done) => say(ticket, { kind: "progress", words: "Attacking", share: done });
      share(0);
      const own = ids.map((id) => pool[id]);
      const images = await attacked(net, list, own, setting, pause, share);
      const computed = await compute(net, images, keepOf(ids.length, setting.k), pause, tell("attacked", ids));
      keep(key.attacked, { ids, images, ...computed });
      found = places(results.get(key.attacked), ids, setting.k);
    } else keep(key.attacked, results.get(key.attacked));
    after = part(results.get(key.attacked), found);
  }
  const right = (predicted, list) => list.filter((id, i) => predicted[i] === pool[id]).length;
  const counts = {
    n: ids.length,
    right: right(clean.predicted, ids),
    rightAfter: after && right(after.predicted, ids),
    changed: null,
  };
  if (after) {
    const turned = ids
      .map((_, i) => i)
      .filter((i) => clean.predicted[i] === pool[ids[i]] && after.predicted[i] !== pool[ids[i]]);
    counts.changed = turned.length;
    if (setting.images === "changed" && turned.length > setting.k && clean.graphs[0].keep === ids.length - 1)
      [clean, after] = [part(clean, turned), part(after, turned)];
  }
  return { groups, labelsOf, clean, after, counts };
}

/** Predicted classes as groups; a class that takes no part is a group of its own. */
const guessesOf = (groups, predicted) =>
  Array.from(predicted, (c) => (groups.of[c] < 0 ? groups.names.length : groups.of[c]));

async function set({ setting, ticket }) {
  await runtime(setting.on);
  const { groups, labelsOf, clean, after, counts } = await sample(setting, ticket);
  const labels = labelsOf(clean.ids);
  const curve = ({ graphs, predicted }) =>
    graphs.map((graph) => reading(graph, setting.k, labels, guessesOf(groups, predicted)));
  const answer = {
    clean: curve(clean),
    attacked: after && curve(after),
    counts,
    used: clean.ids.length,
    groups: groups.names,
  };
  const layers = networks.get(setting.network).layers;
  say(ticket, { kind: "result", ...answer, layers, ids: clean.ids, setting });
  const shown = JSON.stringify([keys(setting), clean.ids, labels]);
  if (shown === drawnFor) return say(ticket, { kind: "same" });
  await draw(ticket, setting, groups, labels, clean, after);
  drawnFor = shown;
}

let drawnFor = null; // what the picture of the graph shows now

const COLUMNS = 25; // of the sheet of thumbnails

async function sheet(list) {
  const canvas = new OffscreenCanvas(32 * COLUMNS, 32 * Math.ceil(list.length / COLUMNS));
  const context = canvas.getContext("2d");
  list.forEach((each, i) =>
    context.putImageData(new ImageData(bytes(each), 32, 32), 32 * (i % COLUMNS), 32 * Math.floor(i / COLUMNS)),
  );
  return canvas.convertToBlob();
}

/** What the picture of the graph needs, as modlib.book.widgets.graph gives it; `wide` graphs also hold pictures of the
    reader's, which count in no number. */
async function version(graphs, wide, labels, predicted, groups, list, pause, start) {
  const reach = Math.min(REACH, graphs[0].n - 1);
  const guesses = guessesOf(groups, predicted);
  const n = wide[0].n;
  const near = new Uint16Array(graphs.length * n * reach);
  const at = new Float32Array(graphs.length * n * 2);
  const [q, same, terms, guessed] = [[], [], [], []];
  const under = guesses.slice(0, graphs[0].n);
  let places = start;
  for (const [layer, graph] of graphs.entries()) {
    const all = wide[layer];
    for (let i = 0; i < n; i++)
      for (let place = 0; place < reach; place++) {
        const edge = all.similarity[i * all.keep + place] > 0;
        near[(layer * n + i) * reach + place] = edge ? all.neighbours[i * all.keep + place] : 65535;
      }
    places = layout(all, places);
    at.set(inSquare(places), layer * n * 2);
    (q.push([]), same.push([]), guessed.push([]));
    for (let k = 1; k <= reach; k++) {
      const edges = edgesOf(graph, k);
      const found = modularityOf(graph.n, edges, labels, groups.names.length);
      q[layer].push(found.q);
      terms.push(...found.terms);
      same[layer].push(sameShare(edges, labels) ?? 0);
      guessed[layer].push(modularityOf(graph.n, edges, under).q);
    }
    await pause();
  }
  const told = new Set(under).size > 1 && !guesses.includes(groups.names.length);
  return {
    neighbours: near,
    at,
    terms,
    q,
    same,
    predicted: told ? guesses : [],
    q_predicted: told ? guessed : [],
    sheet: await sheet(list),
    reach,
  };
}

async function draw(ticket, setting, groups, labels, clean, after) {
  const pause = pauseFor(ticket);
  const common = {
    kind: "graph",
    labels,
    classes: groups.names,
    layers: networks.get(setting.network).layers,
    columns: COLUMNS,
  };
  const first = await corrupted(setting, clean.ids);
  const versions = { clean: await version(clean.graphs, clean.graphs, labels, clean.predicted, groups, first, pause) };
  if (after)
    versions.attacked = await version(after.graphs, after.graphs, labels, after.predicted, groups, after.images, pause);
  say(ticket, { ...common, versions, n: labels.length });
}

/** A picture of the reader's: what the network takes it for, what an attack makes of it, and both in the graph of each layer. */
async function picture({ setting, ticket, pixels: own }) {
  const pause = pauseFor(ticket);
  const net = await network(setting);
  const logits = async (list) => {
    let last;
    for await (const layer of through(net, list, pause)) last = layer;
    return last;
  };
  const softmax = ({ data }, from, count) => {
    const part = Array.from(data.subarray(from, from + count));
    const top = Math.max(...part);
    const powers = part.map((value) => Math.exp(value - top));
    const sum = powers.reduce((a, b) => a + b, 0);
    return powers.map((value) => value / sum);
  };
  const { classes } = manifest.images;
  const first = await logits([own]);
  const guess = most(first.data, 0, classes.length);
  const how = attacks(setting) ? setting : SMALL;
  const [other] = await attacked(net, [own], [guess], how, pause, () => {});
  const second = await logits([other]);
  const answer = {
    before: softmax(first, 0, classes.length),
    after: softmax(second, 0, classes.length),
    pixels: [bytes(own), bytes(other)],
  };
  say(ticket, { kind: "picture", ...answer, classes, attack: how.attack, eps: how.eps, steps: how.steps });

  const { groups, labelsOf, clean } = await sample({ ...setting, attack: "none" }, ticket);
  const labels = labelsOf(clean.ids);
  const list = [...(await corrupted(setting, clean.ids)), own, other];
  const n = clean.ids.length;
  const wide = [];
  let predicted;
  for await (const layer of through(net, list, pause)) {
    if (layer.name === "logits") predicted = classesOf(layer);
    else {
      const norms = lengths(layer.data, n + 2, layer.m);
      const cosine = [n, n + 1].map((i) => {
        const products = multiply(layer.data.subarray(i * layer.m, (i + 1) * layer.m), layer.data, layer.m);
        return products.map((value, j) => (j === i ? -Infinity : value / (norms[i] * norms[j] || Infinity)));
      });
      wide.push(joined(clean.graphs[wide.length], cosine, Math.min(REACH, n - 1)));
      say(ticket, {
        kind: "progress",
        words: "Finding the neighbours of your picture",
        share: wide.length / clean.graphs.length,
      });
    }
  }
  const guesses = guessesOf(groups, predicted);
  const labelled = [...labels, ...guesses.slice(n).map((c) => Math.min(c, groups.names.length - 1))];
  const versions = { clean: await version(clean.graphs, wide, labels, predicted, groups, list, pause) };
  const layers = networks.get(setting.network).layers;
  say(ticket, {
    kind: "graph",
    labels: labelled,
    classes: groups.names,
    layers,
    columns: COLUMNS,
    versions,
    n: n + 2,
    own: [n, n + 1],
  });
  drawnFor = null;
}

// What is heard

/** Prepares the worker; what the first curve needs is fetched side by side. */
async function start({ manifest: given, base: folder, setting, ticket }) {
  if (!files) {
    [manifest, base] = [given, folder];
    networks = new Map(manifest.networks.map((each) => [each.name, each]));
    truth = manifest.images.parts.flatMap(({ labels }) => labels);
    const sizes = sizesIn(manifest);
    const came = new Map();
    files = library(base, sizes, (name, bytes) => {
      came.set(name, bytes);
      const sum = (list) => list.reduce((all, each) => all + each, 0);
      const [got, all] = [sum([...came.values()]), sum(first.map((each) => sizes[each]))];
      const words =
        got <= all ? `Fetching: ${(got / 1e6).toFixed(1)} of ${(all / 1e6).toFixed(1)} MB` : `Fetching ${name}`;
      say(latest, { kind: "progress", words, share: Math.min(1, got / all) });
    });
  }
  const first = needed(manifest, setting);
  await Promise.all(first.map((name) => files.load(name)));
  await set({ setting, ticket });
}

/** The images of a setting as the network gets them, and where they stand in the pool: for who computes them again. */
async function show({ setting, ticket }) {
  const { clean, after } = await sample(setting, ticket);
  say(ticket, { kind: "pixels", ids: clean.ids, pixels: after?.images ?? (await corrupted(setting, clean.ids)) });
}

const HEARD = { start, set, picture, show, stop() {} };
let working = Promise.resolve();

onmessage = ({ data }) => {
  latest = data.ticket;
  working = working.then(async () => {
    if (data.ticket !== latest) return;
    try {
      await HEARD[data.kind](data);
      say(data.ticket, { kind: "done" });
    } catch (error) {
      if (error instanceof Stopped) return;
      const short = /memory|allocation|out of bounds|Array buffer/i.test(error.message) || error instanceof RangeError;
      say(data.ticket, { kind: "error", lost: error instanceof Lost, short, words: error.message });
    }
  });
};
