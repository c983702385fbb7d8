/* The computing half of the live laboratory: images through a network, layer by layer; the graph of each layer; Q.
   It hears {kind: "start" | "set" | "picture", ticket, ...} and answers with progress, layers, results and errors, each with
   the ticket it belongs to. A later ticket stops what is under way. */

import { library, Lost } from "./files.js";
import { CORRUPTIONS, bytes, planes } from "./images.js";
import { among, cosinesOf, edgesOf, joined, nearestOf, sameShare } from "./knn.js";
import { inSquare, layout } from "./layout.js";
import { modularityOf } from "./modularity.js";
import { attacked, network, product, runtime, through } from "./network.js";
import { LEAST, attacks, demand, grouping, keepOf, keys, needed, poolOf, sequence, sizesIn } from "./settings.js";

const REACH = 20; // neighbours that the picture of the graph can show
const ROOM = 20e6; // bytes for results that are kept beside the last two: 15 MB each for ten layers of 500 images
const SMALL = { attack: "pgd", eps: 4, steps: 10 }; // what is done to a picture of the reader's where no attack is chosen

class Stopped extends Error {}

let base, manifest, networks, files;
let wanted = []; // files that were asked for last
let latest = 0; // the ticket that counts
let speed = null; // multiplications a second, when images have been through a network
const results = new Map(); // features' key -> {ids, graphs, predicted, images or none}

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

/** Fetches files side by side, with progress over those that are not there yet. */
async function fetchAll(names) {
  wanted = names.filter((name) => !files.has(name));
  await Promise.all(wanted.map((name) => files.fetch(name)));
}

const pixels = new Map(); // image -> its pixels as stored, a byte each
let truth; // class of each image of the pool

/** Cuts a mosaic into images, and holds their bytes against the sum that the book's build told. */
async function cut({ file, first, count, columns, sum }) {
  const blob = new Blob([await files.load(file)], { type: "image/webp" });
  const picture = await createImageBitmap(blob, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  const context = new OffscreenCanvas(picture.width, picture.height).getContext("2d", { willReadFrequently: true });
  context.drawImage(picture, 0, 0);
  picture.close();
  const images = [];
  let [found, place] = [0, 1];
  for (let i = 0; i < count; i++) {
    const { data } = context.getImageData(32 * (i % columns), 32 * Math.floor(i / columns), 32, 32);
    images.push(Uint8Array.from(planes(data), (value) => Math.round(255 * value)));
    for (const value of images[i]) found = (found + value * place++) % 2 ** 32;
  }
  if (found !== sum)
    throw new Error("this browser changes the pictures that it decodes, perhaps against being recognised");
  images.forEach((each, i) => pixels.set(first + i, each));
}

async function stored(ids) {
  for (const part of manifest.images.parts)
    if (!pixels.has(part.first) && ids.some((id) => id >= part.first && id < part.first + part.count)) await cut(part);
  return ids.map((id) => new Float32Array(pixels.get(id)).map((value) => value / 255));
}

// What is computed

const most = (values) => values.reduce((best, value, i) => (value > values[best] ? i : best), 0);
const classesOf = ({ m, columns }) => Int32Array.from(columns(0, m), most);

/** Graphs of all layers and predicted classes of images, each given out as soon as it is there. */
async function compute(net, list, keep, pause, told) {
  const graphs = [];
  let predicted = null;
  for await (const { name, features } of through(net, list, pause)) {
    if (name === "logits") predicted = classesOf(features);
    else {
      graphs.push(await nearestOf(features, keep, product, pause));
      told(graphs.length - 1, graphs.at(-1));
    }
  }
  return { graphs, predicted };
}

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

/** What a result says of images: the one that is kept, or else the one that is made. */
async function had(key, ids, k, make) {
  let result = results.get(key);
  if (!places(result, ids, k)) result = await make();
  results.delete(key);
  results.set(key, result);
  const bytesOf = ({ graphs }) => graphs.reduce((sum, graph) => sum + 6 * graph.n * graph.keep, 0);
  const older = [...results].slice(0, -2);
  let room = ROOM;
  for (const [old, each] of older.reverse()) if ((room -= bytesOf(each)) < 0) results.delete(old);
  return part(result, places(result, ids, k));
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

/** Everything about the sample of a setting: {groups, labelsOf, clean, after an attack or null, counts}. */
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
    say(ticket, { kind: "layer", of, layer, depth, ...reading(seen, setting.k, labelsOf(shown)) });
  };

  let clean = await had(key.clean, ids, setting.k, async () => {
    const more = setting.n < LEAST ? all.slice(0, LEAST) : ids;
    say(ticket, { kind: "progress", words: "Reading the images", share: null });
    const list = await corrupted(setting, more);
    const net = await network(networks.get(setting.network), setting);
    const chosen = setting.n < more.length ? ids.map((_, i) => i) : null;
    const began = performance.now();
    const computed = await compute(net, list, keepOf(more.length, setting.k), pause, tell("clean", more, chosen));
    const { work } = demand(networks.get(setting.network), { ...setting, n: more.length, attack: "none" });
    speed = (1000 * work) / (performance.now() - began);
    return { ids: more, ...computed };
  });

  let after = null;
  if (attacks(setting))
    after = await had(key.attacked, ids, setting.k, async () => {
      const net = await network(networks.get(setting.network), setting);
      const list = await corrupted(setting, ids);
      const share = (done) => say(ticket, { kind: "progress", words: "Attacking", share: done });
      share(0);
      const own = ids.map((id) => pool[id]);
      const images = await attacked(net, list, own, setting, pause, share);
      const computed = await compute(net, images, keepOf(ids.length, setting.k), pause, tell("attacked", ids));
      return { ids, images, ...computed };
    });
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

/** Tells the curve of a setting; what it was made from: {groups, labels, clean, after}. */
async function answer({ setting, ticket }) {
  await fetchAll(needed(manifest, setting));
  await runtime(setting.on, { manifest, base, files });
  const { groups, labelsOf, clean, after, counts } = await sample(setting, ticket);
  const labels = labelsOf(clean.ids);
  const curve = ({ graphs, predicted }) =>
    graphs.map((graph) => reading(graph, setting.k, labels, guessesOf(groups, predicted)));
  say(ticket, {
    kind: "result",
    clean: curve(clean),
    attacked: after && curve(after),
    counts,
    used: clean.ids.length,
    groups: groups.names,
    layers: networks.get(setting.network).layers,
    ids: clean.ids,
    setting,
    speed,
  });
  return { groups, labels, clean, after };
}

/** Tells the curve of a setting and, unless the page shows it already, the graph of each layer. */
async function set({ setting, ticket, drawn }) {
  const found = await answer({ setting, ticket });
  const key = JSON.stringify([keys(setting), found.clean.ids, found.labels, found.groups.names]);
  if (key !== drawn) await draw(ticket, key, setting, found);
}

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
async function version(graphs, wide, labels, predicted, groups, list, pause) {
  const reach = Math.min(REACH, graphs[0].n - 1);
  const guesses = guessesOf(groups, predicted);
  const n = wide[0].n;
  const near = new Uint16Array(graphs.length * n * reach);
  const at = new Float32Array(graphs.length * n * 2);
  const [q, same, terms, guessed] = [[], [], [], []];
  const under = guesses.slice(0, graphs[0].n);
  let places;
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

async function draw(ticket, key, setting, { groups, labels, clean, after }) {
  const pause = pauseFor(ticket);
  const common = {
    kind: "graph",
    key,
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
  await fetchAll([...needed(manifest, setting), networks.get(setting.network).gradient.file]);
  const net = await network(networks.get(setting.network), setting);
  const logits = async (image) => {
    let last;
    for await (const { features } of through(net, [image], pause)) [last] = features.columns(0, features.m);
    return Array.from(last);
  };
  const softmax = (values) => {
    const top = Math.max(...values);
    const powers = values.map((value) => Math.exp(value - top));
    const sum = powers.reduce((a, b) => a + b, 0);
    return powers.map((value) => value / sum);
  };
  const { classes } = manifest.images;
  const first = await logits(own);
  const how = attacks(setting) ? setting : SMALL;
  const [other] = await attacked(net, [own], [most(first)], how, pause, () => {});
  const second = await logits(other);
  say(ticket, {
    kind: "picture",
    before: softmax(first),
    after: softmax(second),
    pixels: [bytes(own), bytes(other)],
    classes,
    attack: how.attack,
    eps: how.eps,
    steps: how.steps,
  });

  const { groups, labels, clean } = await answer({ setting, ticket });
  const list = [...(await corrupted(setting, clean.ids)), own, other];
  const n = clean.ids.length;
  const wide = [];
  let predicted;
  for await (const { name, features } of through(net, list, pause)) {
    if (name === "logits") predicted = classesOf(features);
    else {
      const similar = await cosinesOf(features, [n, n + 1]);
      wide.push(joined(clean.graphs[wide.length], similar, Math.min(REACH, n - 1)));
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
}

// What is heard

/** Prepares the worker, and answers as `set` does. */
async function start({ manifest: given, base: folder, ...asked }) {
  if (!files) {
    [manifest, base] = [given, folder];
    networks = new Map(manifest.networks.map((each) => [each.name, each]));
    truth = poolOf(manifest);
    const sizes = sizesIn(manifest);
    const came = new Map();
    files = library(base, sizes, (name, bytes) => {
      came.set(name, bytes);
      if (!wanted.includes(name)) return; // what still comes of something else
      const sum = (bytesOf) => wanted.reduce((all, each) => all + bytesOf(each), 0);
      const [got, all] = [sum((each) => came.get(each) ?? 0), sum((each) => sizes[each])];
      const words =
        got <= all ? `Fetching: ${(got / 1e6).toFixed(1)} of ${(all / 1e6).toFixed(1)} MB` : `Fetching ${name}`;
      say(latest, { kind: "progress", words, share: Math.min(1, got / all) });
    });
  }
  await set(asked);
}

/** The images of a setting as the network gets them: for who computes them again. */
async function show({ setting, ticket }) {
  const { clean, after } = await sample(setting, ticket);
  say(ticket, { kind: "pixels", pixels: after?.images ?? (await corrupted(setting, clean.ids)) });
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
