/* The graph laboratory: a small graph whose edges, weights and communities the reader changes; modularity and each
   term of its sum are computed here. */

import {
  button,
  choice,
  color,
  dataTable,
  el,
  fixed,
  follow,
  frame,
  has,
  mark,
  menu,
  percent,
  slider,
  statement,
} from "./kit.js";
import { modularityOf } from "./modularity.js";

const WEIGHTS = [0, 0.5, 1, 1.5, 2, 2.5, 3, 4, 5, 6, 7];
const NO_EDGES = "none";
const MOST = 12; // communities on offer

/** Edges as in the address of a page: "0-1_1-2*2.5", weight 1 unless told. Pairs that make no sense are left out. */
export function readEdges(text, n) {
  const edges = new Map();
  for (const part of text.split("_")) {
    const found = /^(\d+)-(\d+)(?:\*(\d+(?:\.\d+)?))?$/.exec(part);
    if (!found) continue;
    const [i, j] = [Number(found[1]), Number(found[2])].sort((a, b) => a - b);
    if (i <= j && j < n) edges.set(`${i}-${j}`, Number(found[3] ?? 1));
  }
  return edges;
}

export const writeEdges = (edges) =>
  [...edges]
    .filter(([, w]) => w > 0)
    .map(([key, w]) => (w === 1 ? key : `${key}*${w}`))
    .join("_") || NO_EDGES;

/** Communities as letters: "AAB" is [0, 0, 1]. Null if the text is not one letter a node. */
export function readGroups(text, n) {
  const groups = [...text].map((letter) => letter.charCodeAt(0) - 65);
  return groups.length === n && groups.every((c) => c >= 0 && c < 26) ? groups : null;
}

export const writeGroups = (groups) => groups.map((c) => String.fromCharCode(65 + c)).join("");

/** Modularity Q = sum over communities of I/2W - (S/2W)^2, with everything it is made of. */
export function modularity(n, edges, groups) {
  const entries = { source: [], target: [], weight: [] };
  const add = (i, j, w) => (entries.source.push(i), entries.target.push(j), entries.weight.push(w));
  for (const [key, weight] of edges) {
    const [i, j] = key.split("-").map(Number);
    add(i, j, weight);
    if (i !== j) add(j, i, weight); // a_ij and a_ji; a loop is one entry
  }
  const { q, twoW, strength, inside, total, nodes, terms } = modularityOf(n, entries, groups);
  const rows = terms.map((term, group) => {
    const parts = { group, nodes: nodes[group], inside: inside[group], total: total[group], term };
    return { ...parts, share: parts.inside / twoW, expected: (parts.total / twoW) ** 2 };
  });
  const sum = (name) => rows.reduce((whole, row) => whole + row[name], 0);
  return { twoW, strength: [...strength], terms: rows, inside: sum("share"), expected: sum("expected"), q };
}

const pairKey = (i, j) => `${Math.min(i, j)}-${Math.max(i, j)}`;

/** a_ij - s_i s_j / 2W, the term of one ordered pair. */
export const pairTerm = (graph, edges, i, j) =>
  (edges.get(pairKey(i, j)) ?? 0) - (graph.strength[i] * graph.strength[j]) / graph.twoW;

const short = (number) => +number.toFixed(2);

function stateOf({ presets }, setting) {
  const preset = has(presets, setting.graph) ? presets[setting.graph] : Object.values(presets)[0];
  const n = preset.at.length;
  const own = new Map(preset.edges.map(([i, j, w]) => [`${i}-${j}`, w]));
  const asked = readEdges(setting.edges, n);
  const edges = asked.size || setting.edges === NO_EDGES ? asked : own;
  const groups = readGroups(setting.groups, n) ?? preset.groups;
  let [from, to] = [setting.from, setting.to].map((text, end) => (Object.keys(preset.at).includes(text) ? Number(text) : preset.pair[end]));
  if (from === to) [from, to] = preset.pair;
  return { preset, n, edges, groups, from, to, graph: modularity(n, edges, groups) };
}

function render({ model, el: host }) {
  const data = model.get("data");
  let now; // what is shown
  const change = (more) => view.set(more);
  const pick = (from, to) =>
    change(from === to ? { from: String(now.to), to: String(now.from) } : { from: String(from), to: String(to) });
  const weigh = (weight) => {
    const edges = new Map(now.edges);
    edges.set(pairKey(now.from, now.to), weight);
    change({ edges: writeEdges(edges) });
  };
  const move = (node, group) => change({ groups: writeGroups(now.groups.with(node, group)) });

  const graphs = menu("graph", "Graph", (graph) => change({ graph, edges: "", groups: "", from: "", to: "" }));
  const ends = [
    menu("to", "Node", (node) => pick(now.to === Number(node) ? now.to : now.from, Number(node))),
    menu("from", "Edge to", (node) => pick(Number(node), now.to)),
  ];
  const community = choice("community", "Community", (letter) => move(now.to, letter.charCodeAt(0) - 65));
  const weight = slider("weight", "Weight", weigh, (w) => (w ? String(w) : "none"));
  const about = el("p", { class: "ml-note" });
  const say = statement();
  const sayPair = statement();
  const table = dataTable();
  const picture = el("svg", { role: "img" });
  const line = el("svg", { viewBox: "0 0 360 52", role: "img" });
  const bars = el("svg", { role: "img" });
  const matrix = el("svg", { role: "img" });
  const buttons = el(
    "div",
    { class: "ml-buttons" },
    button("Shuffle the communities", () => {
      const groups = [...now.groups];
      do {
        for (let i = groups.length - 1; i > 0; i--) {
          const j = Math.floor(Math.random() * (i + 1));
          [groups[i], groups[j]] = [groups[j], groups[i]];
        }
      } while (new Set(groups).size > 1 && groups.join() === now.groups.join());
      change({ groups: writeGroups(groups) });
    }),
    button("Start again", () => change({ edges: "", groups: "", from: "", to: "" })),
  );
  host.replaceChildren(
    frame(
      "lab",
      "Graph laboratory",
      el("div", { class: "ml-controls" }, graphs.node),
      about,
      el(
        "div",
        { class: "ml-panes ml-two" },
        el(
          "div",
          {},
          picture,
          say.node,
          el(
            "p",
            { class: "ml-note" },
            "Tap a node to choose it, again to change its community; tap an edge to choose it, again to change its " +
              "weight. Or use the controls.",
          ),
          el("div", {}, ends[0].node, community.node, ends[1].node, weight.node),
          sayPair.node,
          buttons,
        ),
        el(
          "div",
          {},
          line,
          el("p", { class: "ml-title" }, "Share of the weight inside each community"),
          bars,
          el(
            "p",
            { class: "ml-note" },
            "Bar: what is there. Upright line: what chance would put there. Number: the difference, the community’s " +
              "term of Q.",
          ),
          el(
            "p",
            { class: "ml-title" },
            "The term of each pair of nodes, a",
            el("sub", {}, "ij"),
            " − s",
            el("sub", {}, "i"),
            "s",
            el("sub", {}, "j"),
            " / 2W",
          ),
          matrix,
          el(
            "p",
            { class: "ml-note" },
            "Blue: heavier than expected. Orange: lighter. Only pairs inside a community, outlined, count.",
          ),
        ),
      ),
      table.node,
    ),
  );

  const tapNode = (i) => {
    if (i !== now.to) return pick(now.to, i);
    const groups = Math.min(Math.max(...now.groups) + 1, MOST - 1);
    move(i, (now.groups[i] + 1) % (groups + 1));
  };
  const tapPair = (i, j, weight) => {
    const chosen = pairKey(now.from, now.to) === pairKey(i, j);
    if (chosen) weigh(weight === 0 ? 1 : weight < 3 ? Math.floor(weight) + 1 : 0);
    else pick(i, j);
  };

  function drawGraph() {
    const { n, edges, groups, preset, from, to } = now;
    const r = n > 16 ? 9 : 13;
    const side = n > 16 ? 336 : 260; // a large graph takes the width, a small one need not be as high
    const high = Math.max(...preset.at.map(([, y]) => y));
    const low = Math.min(...preset.at.map(([, y]) => y));
    const at = preset.at.map(([x, y]) => [180 + side * (x - 0.5), 24 + side * (high - y)]);
    picture.setAttribute("viewBox", `0 0 360 ${Math.round(48 + side * (high - low))}`);
    const heaviest = Math.max(1, ...edges.values());
    const pair = pairKey(from, to);
    const lines = [...edges, ...((edges.get(pair) ?? 0) > 0 ? [] : [[pair, 0]])]
      .filter(([key, w]) => w > 0 || key === pair)
      .map(([key, w]) => {
        const [i, j] = key.split("-").map(Number);
        if (i === j)
          return el("circle", {
            cx: at[i][0],
            cy: at[i][1] - r,
            r,
            fill: "none",
            stroke: "currentColor",
            "stroke-width": 0.8 + (3.2 * w) / heaviest,
          });
        const ends = { x1: at[i][0], y1: at[i][1], x2: at[j][0], y2: at[j][1] };
        const inside = groups[i] === groups[j];
        return el(
          "g",
          { class: "ml-tap", onclick: () => tapPair(i, j, w) },
          key === pair ? el("line", { ...ends, class: "ml-chosen", "stroke-width": 5 + (3.2 * w) / heaviest }) : null,
          el("line", {
            ...ends,
            stroke: "currentColor",
            "stroke-opacity": w === 0 ? 0.8 : inside ? 0.75 : 0.5,
            "stroke-width": w === 0 ? 1 : 0.8 + (3.2 * w) / heaviest,
            "stroke-dasharray": w === 0 ? "1 4" : inside ? null : "6 4",
          }),
          el("line", { ...ends, stroke: "transparent", "stroke-width": 14 }),
        );
      });
    const nodes = at.map(([x, y], i) =>
      el(
        "g",
        { class: "ml-tap", transform: `translate(${x.toFixed(1)},${y.toFixed(1)})`, onclick: () => tapNode(i) },
        el("circle", { r: Math.max(r + 4, 14), fill: "transparent" }),
        i === from || i === to ? el("circle", { r: r + 4, class: i === to ? "ml-ring" : "ml-ring ml-other" }) : null,
        el("path", { d: mark(groups[i], r), fill: color(groups[i]) }),
        el(
          "text",
          { class: groups[i] % 6 ? "ml-dark" : "ml-light", "font-size": r, "text-anchor": "middle", dy: "0.36em" },
          i,
        ),
      ),
    );
    picture.replaceChildren(...lines, ...nodes);
    picture.setAttribute(
      "aria-label",
      `${preset.title}: ${n} nodes and ${[...edges.values()].filter((w) => w > 0).length} edges`,
    );
  }

  function drawLine() {
    const { q, expected } = now.graph;
    const x = (value) => 16 + ((value + 0.5) / 1.5) * 328;
    const tick = (value, words) => [
      el("line", { x1: x(value), x2: x(value), y1: 24, y2: 34, class: "ml-axis" }),
      el("text", { x: x(value), y: 47, "font-size": 11, "text-anchor": "middle", class: "ml-small" }, words),
    ];
    line.replaceChildren(
      el("line", { x1: x(-0.5), x2: x(1), y1: 29, y2: 29, class: "ml-axis" }),
      ...tick(-0.5, "−½"),
      ...tick(0, "0: chance"),
      ...tick(1, "1"),
      ...(q === q
        ? [
            el("line", {
              x1: x(0),
              x2: x(q),
              y1: 29,
              y2: 29,
              stroke: q < 0 ? color(5) : color(0),
              "stroke-width": 7,
            }),
            el("line", {
              x1: x(1 - expected),
              x2: x(1 - expected),
              y1: 20,
              y2: 38,
              stroke: "currentColor",
              "stroke-dasharray": "2 2",
            }),
            el(
              "text",
              { x: x(1 - expected), y: 47, "font-size": 11, "text-anchor": "middle", class: "ml-small" },
              1 - expected < 0.93 && 1 - expected > 0.3 ? "ceiling" : "",
            ),
            el("circle", { cx: x(q), cy: 29, r: 6, fill: "currentColor" }),
            el(
              "text",
              {
                x: Math.min(Math.max(x(q), 40), 320),
                y: 15,
                "font-size": 15,
                "font-weight": 600,
                "text-anchor": "middle",
              },
              `Q = ${fixed(q)}`,
            ),
          ]
        : []),
    );
    line.setAttribute(
      "aria-label",
      q === q ? `Q = ${fixed(q)} on a scale from minus one half to one` : "Q is not defined",
    );
  }

  function drawBars() {
    const rows = now.graph.terms.filter((term) => term.nodes);
    const most = Math.max(0.05, ...rows.map((row) => Math.max(row.share || 0, row.expected || 0)));
    const x = (share) => 42 + (share / most) * 250;
    const height = rows.length > 7 ? 17 : 23;
    bars.setAttribute("viewBox", `0 0 360 ${rows.length * height}`);
    bars.setAttribute(
      "aria-label",
      rows.map((row) => `community ${writeGroups([row.group])}: ${fixed(row.term)}`).join(", "),
    );
    bars.replaceChildren(
      ...(now.graph.twoW ? rows : []).map((row, place) =>
        el(
          "g",
          { transform: `translate(0,${place * height + height / 2})` },
          el("path", { d: mark(row.group, 6), fill: color(row.group), transform: "translate(10,0)" }),
          el("text", { x: 21, dy: "0.35em", "font-size": 12 }, writeGroups([row.group])),
          el("rect", {
            x: 42,
            y: -height / 2 + 4,
            width: x(row.share) - 42,
            height: height - 8,
            fill: color(row.group),
          }),
          el("line", {
            x1: x(row.expected),
            x2: x(row.expected),
            y1: -height / 2 + 1,
            y2: height / 2 - 1,
            stroke: "currentColor",
            "stroke-width": 2,
          }),
          el(
            "text",
            { x: 356, "text-anchor": "end", dy: "0.35em", "font-size": 13 },
            (row.term > 0 ? "+" : "") + fixed(row.term),
          ),
        ),
      ),
    );
  }

  function drawMatrix() {
    const { n, edges, groups, graph, from, to } = now;
    const order = groups.map((_, i) => i).sort((i, j) => groups[i] - groups[j] || i - j);
    const names = n <= 16;
    const left = names ? 20 : 4;
    const cell = (356 - left) / n;
    const side = left + n * cell;
    matrix.setAttribute("viewBox", `0 0 360 ${side + 4}`);
    matrix.setAttribute("aria-label", "Matrix of the terms of all pairs, sorted by community");
    if (!graph.twoW) return matrix.replaceChildren();
    const terms = order.map((i) => order.map((j) => pairTerm(graph, edges, i, j)));
    const most = Math.max(...terms.flat().map(Math.abs));
    const cells = order.flatMap((i, row) =>
      order.map((j, column) => {
        const value = terms[row][column];
        return el(
          "rect",
          {
            x: left + column * cell + 0.5,
            y: left + row * cell + 0.5,
            width: cell - 1,
            height: cell - 1,
            class: "ml-tap",
            fill: value > 0 ? color(0) : color(5),
            "fill-opacity": Math.sqrt(Math.abs(value) / most) * (groups[i] === groups[j] ? 1 : 0.3),
            onclick: () => (i === j ? tapNode(i) : pick(i, j)),
          },
          el("title", {}, `${i}, ${j}: ${fixed(value, 2)}`),
        );
      }),
    );
    const words = names
      ? order.flatMap((i, place) => {
          const middle = left + (place + 0.5) * cell;
          const text = { "font-size": 11, "text-anchor": "middle", class: "ml-small" };
          return [el("text", { ...text, x: middle, y: 14 }, i), el("text", { ...text, x: 9, y: middle + 4 }, i)];
        })
      : [];
    const blocks = graph.terms
      .filter((term) => term.nodes)
      .map((term) => {
        const start = left + order.findIndex((i) => groups[i] === term.group) * cell;
        return el("rect", {
          x: start,
          y: start,
          width: term.nodes * cell,
          height: term.nodes * cell,
          class: "ml-block",
        });
      });
    const spots = [
      [from, to],
      [to, from],
    ].map(([i, j]) =>
      el("rect", {
        x: left + order.indexOf(j) * cell,
        y: left + order.indexOf(i) * cell,
        width: cell,
        height: cell,
        class: "ml-spot",
      }),
    );
    matrix.replaceChildren(...cells, ...words, ...blocks, ...spots);
  }

  function words() {
    const { graph, edges, groups, from, to, preset } = now;
    about.textContent = preset.about;
    if (!graph.twoW) {
      say.show("There is no edge, so Q is not defined.");
      return sayPair.show(`Nodes ${from} and ${to}: no edge.`);
    }
    say.show(
      `Q = ${fixed(graph.q)}: ${percent(graph.inside)} of the weight lies inside the communities; ` +
        `chance would put ${percent(graph.expected)} there.`,
    );
    const w = edges.get(pairKey(from, to)) ?? 0;
    const expected = (graph.strength[from] * graph.strength[to]) / graph.twoW;
    const adds = (2 * (w - expected)) / graph.twoW;
    sayPair.show(
      `Nodes ${from} and ${to}: weight ${w}, expected ${short(graph.strength[from])} × ${short(graph.strength[to])} / ` +
        `${short(graph.twoW)} = ${fixed(expected)}. ` +
        (groups[from] === groups[to]
          ? `They share a community, so both orders of the pair together add ${adds > 0 ? "+" : ""}${fixed(adds)} to Q.`
          : "They are in different communities, so the pair does not count."),
    );
  }

  function draw() {
    now = stateOf(data, model.get("setting"));
    const { n, groups, from, to, edges, graph } = now;
    const nodes = groups.map((_, i) => [String(i), String(i)]);
    const used = Math.min(Math.max(...groups) + 2, MOST);
    const w = edges.get(pairKey(from, to)) ?? 0;
    graphs.show(
      Object.keys(data.presets).find((key) => data.presets[key] === now.preset),
      Object.entries(data.presets).map(([key, { title }]) => [key, title]),
    );
    ends[0].show(String(to), nodes);
    ends[1].show(
      String(from),
      nodes.filter((_, i) => i !== to),
    );
    community.show(
      writeGroups([groups[to]]),
      Array.from({ length: used }, (_, c) => [writeGroups([c]), writeGroups([c])]),
    );
    weight.show(
      w,
      [...new Set([...WEIGHTS, w])].sort((a, b) => a - b),
    );
    drawGraph();
    drawLine();
    drawBars();
    drawMatrix();
    words();
    table.show(["Community", "nodes", "inside I", "strength S", "I / 2W", "(S / 2W)²", "term"], () => [
      ...graph.terms
        .filter((term) => term.nodes)
        .map((term) => [
          writeGroups([term.group]),
          term.nodes,
          +term.inside.toFixed(3),
          +term.total.toFixed(3),
          fixed(term.share, 4),
          fixed(term.expected, 4),
          fixed(term.term, 4),
        ]),
      [
        "all",
        n,
        +(graph.inside * graph.twoW).toFixed(3),
        +graph.twoW.toFixed(3),
        fixed(graph.inside, 4),
        fixed(graph.expected, 4),
        fixed(graph.q, 4),
      ],
    ]);
  }

  const view = follow(model, draw);
  return view.stop;
}

export default { render };
