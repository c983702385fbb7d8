/* k-NN graphs as modlib.graph makes them, for the worker of the live laboratory. A graph is two typed arrays, (N, keep)
   neighbours and similarities, the most similar first. */

const DOUBT = 2 ** -18; // float32 similarities nearer to each other than this are decided in float64
const GRAIN = 2 ** -40; // similarities that agree to this are equal, and go to the lower index
const SETTLED = 64; // places of a list that are settled in float64
const PANEL = 128; // rows multiplied at a time
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

/** The memory of an array goes now, not when the browser next looks for what nobody holds. */
export const free = (array) => array.buffer.transfer?.(0);

/** Features that lie in memory, a Float32Array a row. A matrix has `n` rows of `m` numbers, of which `columns(from, to)` gives
    `width` at a time. */
export function matrixOf(rows) {
  const [n, m] = [rows.length, rows[0].length];
  return { n, m, width: m, columns: (from, to) => rows.map((row) => row.subarray(from, to)) };
}

/** Calls `use` with all rows of a matrix, as many of their numbers at a time as it gives. */
async function walk({ m, width, columns }, use) {
  for (let from = 0; from < m; from += width) await use(await columns(from, Math.min(m, from + width)));
}

/** Cosine similarities of some rows with all rows, a list a row; the own one -Infinity. */
export async function cosinesOf(x, chosen) {
  const squares = new Float64Array(x.n);
  const sums = chosen.map(() => new Float64Array(x.n));
  await walk(x, (part) => {
    part.forEach((row, j) => {
      squares[j] += dot(row, row);
      chosen.forEach((i, place) => (sums[place][j] += dot(part[i], row)));
    });
  });
  const norms = squares.map(Math.sqrt);
  return chosen.map((i, place) =>
    Float32Array.from(sums[place], (sum, j) => (i === j ? -Infinity : sum / (norms[i] * norms[j] || Infinity))),
  );
}

/** Cosine similarities of all rows of x, (n, n), the own one -Infinity, and the rows' norms. Rows of zeros are similar to
    nothing. Of each pair of panels only one is multiplied; `product` may be asynchronous, and `pause` is awaited in between. */
export async function cosines(x, product = multiply, pause = () => {}) {
  const { n } = x;
  const squares = new Float64Array(n);
  const similar = new Float32Array(n * n);
  const panels = [0, 1].map(() => new Float32Array(Math.min(PANEL, n) * Math.min(SLICE, x.width))); // used again and again
  const sums = new Float64Array(Math.min(PANEL, n) ** 2);
  await walk(x, async (all) => {
    const m = all[0].length;
    all.forEach((row, i) => (squares[i] += dot(row, row)));
    for (let top = 0; top < n; top += PANEL)
      for (let left = top; left < n; left += PANEL) {
        const [rows, columns] = [Math.min(PANEL, n - top), Math.min(PANEL, n - left)];
        sums.fill(0);
        for (let from = 0; from < m; from += SLICE) {
          const width = Math.min(SLICE, m - from);
          const part = (panel, start, count) => {
            for (let i = 0; i < count; i++) panel.set(all[start + i].subarray(from, from + width), i * width);
            return panel.subarray(0, count * width);
          };
          const block = await product(part(panels[0], top, rows), part(panels[1], left, columns), width);
          for (let at = 0; at < block.length; at++) sums[at] += block[at];
          free(block);
          await pause();
        }
        for (let i = 0; i < rows; i++)
          for (let j = 0; j < columns; j++) similar[(top + i) * n + left + j] += sums[i * columns + j];
      }
  });
  const norms = squares.map(Math.sqrt);
  for (let i = 0; i < n; i++) {
    similar[i * n + i] = -Infinity;
    for (let j = i + 1; j < n; j++)
      similar[i * n + j] = similar[j * n + i] = similar[i * n + j] / (norms[i] * norms[j] || Infinity);
  }
  return { similar, norms };
}

/** The first places of a row of similarities, `keep` and a few more, to see what lies near the last: the largest first, equal
    ones by index, `self` left out; and from where to where float32 leaves in doubt which of them comes first. */
function ranked(row, self, keep) {
  const n = row.length;
  let places = new Uint16Array(n).map((_, j) => j); // typed arrays throughout: lists would lie long in the heap of scripts
  const reach = Math.min(n - 1, keep + 4);
  const least = reach < n - 1 ? row.slice().sort()[n - reach] - DOUBT : -Infinity;
  places = places.filter((j) => j !== self && row[j] >= least).sort((a, b) => row[b] - row[a] || a - b);
  const settled = Math.min(places.length, Math.max(keep === n - 1 ? 0 : keep + 4, SETTLED));
  const doubts = [];
  for (let from = 0, to; from < settled; from = to) {
    to = from + 1;
    while (to < places.length && row[places[to - 1]] - row[places[to]] <= DOUBT) to += 1;
    if (to > from + 1) doubts.push({ from, nodes: places.slice(from, to), sums: new Float64Array(to - from) });
  }
  return { places, doubts };
}

/** The graph of the rows of a matrix: each node's `keep` nearest others. */
export async function nearestOf(x, keep, product, pause = () => {}) {
  const { n } = x;
  const { similar, norms } = await cosines(x, product, pause);
  const order = [];
  for (let i = 0; i < n; i++) {
    order.push(ranked(similar.subarray(i * n, (i + 1) * n), i, keep));
    if (i % PANEL === 0) await pause();
  }
  if (order.some(({ doubts }) => doubts.length))
    await walk(x, async (part) => {
      for (let i = 0; i < n; i++) {
        for (const { nodes, sums } of order[i].doubts)
          nodes.forEach((j, place) => (sums[place] += dot(part[i], part[j])));
        if (i % PANEL === 0) await pause();
      }
    });
  const graph = { n, keep, neighbours: new Uint16Array(n * keep), similarity: new Float32Array(n * keep) };
  order.forEach(({ places, doubts }, i) => {
    for (const { from, nodes, sums } of doubts) {
      const exact = sums.map((sum, place) => Math.round(sum / (norms[i] * norms[nodes[place]] || Infinity) / GRAIN));
      const first = Uint16Array.from(nodes.keys()).sort((a, b) => exact[b] - exact[a] || nodes[a] - nodes[b]);
      first.forEach((of, place) => (places[from + place] = nodes[of]));
    }
    for (let place = 0; place < keep; place++) {
      graph.neighbours[i * keep + place] = places[place];
      graph.similarity[i * keep + place] = similar[i * n + places[place]];
    }
  });
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
