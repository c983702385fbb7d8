/* Modularity of a graph under labels, as modlib.modularity computes it: shared by the graph laboratory and the live one. */

/** Modularity under labels 0, 1, ...: Q, 2W, the strength of each node, and of each community its nodes, weight inside,
    strength and term I/2W - (S/2W)^2. Entries (source, target, weight) are directed; the graph is (D + D^T) / 2. Without
    edges Q is NaN. */
export function modularityOf(n, { source, target, weight }, labels, communities = Math.max(...labels) + 1) {
  const strength = new Float64Array(n);
  const inside = new Float64Array(communities);
  let twoW = 0;
  for (let e = 0; e < source.length; e++) {
    const w = weight[e];
    strength[source[e]] += w / 2;
    strength[target[e]] += w / 2;
    twoW += w;
    if (labels[source[e]] === labels[target[e]]) inside[labels[source[e]]] += w;
  }
  const total = new Float64Array(communities);
  const nodes = new Int32Array(communities);
  for (let i = 0; i < n; i++) {
    total[labels[i]] += strength[i];
    nodes[labels[i]] += 1;
  }
  const terms = Array.from(inside, (weightInside, c) => weightInside / twoW - (total[c] / twoW) ** 2);
  return { q: terms.reduce((sum, term) => sum + term, 0), twoW, strength, inside, total, nodes, terms };
}
