/* k-NN graphs as modlib.graph makes them, for the worker of the live laboratory. Features are a list of N rows, each a
   Float32Array; a graph is two typed arrays, (N, keep) neighbours and similarities, the most similar first. */

const DOUBT = 2 ** -18; // float32 similarities nearer to each other than this are decided in float64
const GRAIN = 2 ** -40; // similarities that agree to this are equal, and go to the lower index
const SETTLED = 64; // places of a list that are settled in float64
const PANEL = 256; // rows multiplied at a time
const SLICE = 4096; // features multiplied at a time: float32 sums stay short

/** The directed edges of a graph's k nearest neighbours. */
export function edgesOf({ n, keep, neighbours, similarity }, k) {
  const [source, target, weight] = [new Uint16Array(n * k), new Uint16Array(n * k), new Float64Array(n * k)];
  for (let i = 0, e = 0; i < n; i++)
    for (let place = 0; place < k; place++, e++) {
      source[e] = i;
      target[e] = neighbours[i * keep + place];
      weight[e] = Math.min(1, Math.max(0, similarity[i * keep + place])); // zero or below makes no edge
    }
  return { source, target, weight };
}

/** Share of the edges that join two nodes of one label; null without edges. */
export function sameShare({ source, target, weight }, labels) {
  let [all, same] = [0, 0];
  for (let e = 0; e < source.length; e++) {
    if (weight[e] === 0) continue;
    all += 1;
    same += labels[source[e]] === labels[target[e]];
  }
  return all ? same / all : null;
}

/** The rows a (p, m) times the rows b (r, m), (p, r): where no runtime multiplies. */
function multiply(a, b, m) {
  const [p, r] = [a.length / m, b.length / m];
  const out = new Float32Array(p * r);
  for (let i = 0; i < p; i++)
    for (let j = 0; j < r; j++) {
      let sum = 0;
      for (let f = 0; f < m; f++) sum += a[i * m + f] * b[j * m + f];
      out[i * r + j] = sum;
    }
  return out;
}

const dot = (a, b) => {
  let sum = 0;
  for (let f = 0; f < a.length; f++) sum += a[f] * b[f];
  return sum;
};

const lengths = (x) => Float64Array.from(x, (row) => Math.sqrt(dot(row, row)));
const cosine = (x, norms, i, j) => dot(x[i], x[j]) / (norms[i] * norms[j] || Infinity);

/** Cosine similarities of row i of x with all rows; the own one -Infinity. */
export function cosinesOf(x, i) {
  const norms = lengths(x);
  return Float32Array.from(x, (_, j) => (i === j ? -Infinity : cosine(x, norms, i, j)));
}

/** Cosine similarities of all rows of x, (n, n); the own one -Infinity. Rows of zeros are similar to nothing.
    Of each pair of panels only one is multiplied; `product` may be asynchronous, and `pause` is awaited in between. */
export async function cosines(x, product = multiply, pause = () => {}) {
  const [n, m] = [x.length, x[0].length];
  const norms = lengths(x);
  const similar = new Float32Array(n * n);
  const panels = [0, 1].map(() => new Float32Array(Math.min(PANEL, n) * Math.min(SLICE, m))); // used again and again
  for (let top = 0; top < n; top += PANEL)
    for (let left = top; left < n; left += PANEL) {
      const [rows, columns] = [Math.min(PANEL, n - top), Math.min(PANEL, n - left)];
      const sums = new Float64Array(rows * columns);
      for (let from = 0; from < m; from += SLICE) {
        const width = Math.min(SLICE, m - from);
        const part = (panel, start, count) => {
          for (let i = 0; i < count; i++) panel.set(x[start + i].subarray(from, from + width), i * width);
          return panel.subarray(0, count * width);
        };
        const block = await product(part(panels[0], top, rows), part(panels[1], left, columns), width);
        for (let at = 0; at < block.length; at++) sums[at] += block[at];
        await pause();
      }
      for (let i = 0; i < rows; i++)
        for (let j = 0; j < columns; j++) {
          const [a, b] = [top + i, left + j];
          const value = a === b ? -Infinity : sums[i * columns + j] / (norms[a] * norms[b] || Infinity);
          similar[a * n + b] = similar[b * n + a] = value;
        }
    }
  return similar;
}

/** Places 0 .. keep - 1 of a row of similarities: the largest first, equal ones by index; what float32 leaves in doubt
    among the first is decided by `exact(j)`. `self` is left out. */
export function order(row, self, keep, exact) {
  const n = row.length;
  let places = [];
  const reach = Math.min(n - 1, keep + 4); // a few more, to see what lies near the last
  const least = reach < n - 1 ? row.slice().sort()[n - reach] - DOUBT : -Infinity;
  for (let j = 0; j < n; j++) if (j !== self && row[j] >= least) places.push(j);
  places.sort((a, b) => row[b] - row[a] || a - b);
  const settled = Math.min(places.length, Math.max(keep === n - 1 ? 0 : keep + 4, SETTLED));
  for (let from = 0; from < settled; ) {
    let to = from + 1;
    while (to < places.length && row[places[to - 1]] - row[places[to]] <= DOUBT) to += 1;
    if (to > from + 1) {
      const known = new Map(places.slice(from, to).map((j) => [j, Math.round(exact(j) / GRAIN)]));
      places.splice(from, to - from, ...[...known.keys()].sort((a, b) => known.get(b) - known.get(a) || a - b));
    }
    from = to;
  }
  return places.slice(0, keep);
}

/** The graph of the rows of x: each node's `keep` nearest others. */
export async function nearestOf(x, keep, product, pause = () => {}) {
  const n = x.length;
  const similar = await cosines(x, product, pause);
  const norms = lengths(x);
  const graph = { n, keep, neighbours: new Uint16Array(n * keep), similarity: new Float32Array(n * keep) };
  for (let i = 0; i < n; i++) {
    const row = similar.subarray(i * n, (i + 1) * n);
    order(row, i, keep, (j) => cosine(x, norms, i, j)).forEach((j, place) => {
      graph.neighbours[i * keep + place] = j;
      graph.similarity[i * keep + place] = row[j];
    });
    if (i % PANEL === 0) await pause();
  }
  return graph;
}

/** The graph of some of the nodes, in rising order, of a graph that ranks all others of each node. */
export function among(graph, chosen) {
  const [n, keep] = [chosen.length, chosen.length - 1];
  const place = new Int32Array(graph.n).fill(-1);
  chosen.forEach((node, i) => (place[node] = i));
  const part = { n, keep, neighbours: new Uint16Array(n * keep), similarity: new Float32Array(n * keep) };
  chosen.forEach((node, i) => {
    let to = i * keep;
    for (let from = node * graph.keep; to < (i + 1) * keep; from++) {
      const other = place[graph.neighbours[from]];
      if (other < 0) continue;
      part.neighbours[to] = other;
      part.similarity[to++] = graph.similarity[from];
    }
  });
  return part;
}

/** The graph with more nodes behind its own, and `keep` neighbours of each: `similar[a]` are the similarities of new node a
    with all nodes, old and new. */
export function joined(graph, similar, keep) {
  const n = graph.n + similar.length;
  const wide = { n, keep, neighbours: new Uint16Array(n * keep), similarity: new Float32Array(n * keep) };
  const write = (i, places, value) =>
    places.forEach((j, place) => {
      wide.neighbours[i * keep + place] = j;
      wide.similarity[i * keep + place] = value(j);
    });
  for (let i = 0; i < graph.n; i++) {
    const known = new Map();
    for (let place = 0; place < graph.keep; place++)
      known.set(graph.neighbours[i * graph.keep + place], graph.similarity[i * graph.keep + place]);
    similar.forEach((row, a) => known.set(graph.n + a, row[i]));
    const places = [...known.keys()].sort((a, b) => known.get(b) - known.get(a) || a - b);
    write(i, places.slice(0, keep), (j) => known.get(j));
  }
  similar.forEach((row, a) => {
    const self = graph.n + a;
    const places = Array.from(row.keys()).filter((j) => j !== self);
    places.sort((i, j) => row[j] - row[i] || i - j);
    write(self, places.slice(0, keep), (j) => row[j]);
  });
  return wide;
}
