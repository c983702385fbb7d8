/* The pruning explorer: layers are taken off a recorded curve; what is left of MACs and parameters follows exactly, and
   what accuracy was measured for this network, or for the nearest one that was. Layers are counted from 0 in the data,
   from 1 in the address and on the page. */

import {
  PAPER,
  axes,
  button,
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
  recipeWords,
  sample,
  slider,
  statement,
  stroke,
} from "./kit.js";

const NONE = "none of these";
const distinct = (list) => [...new Set(list)];
const million = (number) => `${fixed(number / 1e6, number < 1e6 ? 3 : 2)} M`;

/** Why a layer cannot be taken off beside those that are off already; empty if it can. */
export function refusal(network, off, layer) {
  if (network.why[layer]) return network.why[layer];
  const stage = network.stages[layer];
  const left = network.stages.filter((each, i) => each === stage && i !== layer && !off.includes(i));
  return left.length ? "" : `it is the last of ${stage}, which would be empty`;
}

/** Layers as in the address of a page: "2-3-9". Those that do not exist or cannot go are left out. */
export function readOff(text, network) {
  const off = [];
  for (const part of text.split("-")) {
    const layer = Number(part) - 1;
    if (has(network.layers, layer) && !off.includes(layer) && !refusal(network, off, layer)) off.push(layer);
  }
  return off.sort((a, b) => a - b);
}

export const writeOff = (off) =>
  [...off]
    .sort((a, b) => a - b)
    .map((layer) => layer + 1)
    .join("-");

/** What is left of MACs and parameters: the costs of layers that go together add up. */
export const left = (network, off) =>
  Object.fromEntries(
    ["macs", "params"].map((kind) => [
      kind,
      off.reduce((rest, layer) => rest - network[kind][layer], network.whole[kind]),
    ]),
  );

const differing = (a, b) => [...a.filter((each) => !b.includes(each)), ...b.filter((each) => !a.includes(each))];

/** The measured variants without the most similar layers, {variants, distance}: by the number of layers in which they
    differ, then by the difference in MACs. Null if there are none. */
export function nearest(network, off) {
  const macs = left(network, off).macs;
  const away = ({ removed }) => [differing(removed, off).length, Math.abs(left(network, removed).macs - macs)];
  const ranked = network.variants
    .map((variant) => ({ variant, far: away(variant) }))
    .sort((a, b) => a.far[0] - b.far[0] || a.far[1] - b.far[1]);
  if (!ranked.length) return null;
  const same = writeOff(ranked[0].variant.removed);
  const variants = network.variants.filter(({ removed }) => writeOff(removed) === same);
  return { variants, distance: ranked[0].far[0] };
}

/** How variants without the same layers were chosen, in one name: "1 layer: the last = smallest L1 norm". */
export function ways(variants) {
  const [many] = variants[0].title.split(": ");
  return `${many}: ${distinct(variants.map(({ title }) => title.slice(many.length + 2))).join(" = ")}`;
}

/** The networks that a menu offers, each once: its layers as in an address, and how they were chosen. */
export const offers = ({ variants }) =>
  distinct(variants.map(({ removed }) => writeOff(removed))).map((off) => [
    off,
    ways(variants.filter(({ removed }) => writeOff(removed) === off)),
  ]);

function render({ model, el: host }) {
  const { networks } = model.get("data");
  let now; // what is shown
  const change = (more) => view.set(more);
  const toggle = (layer) => {
    const { network, off } = now;
    if (off.includes(layer)) return change({ layer: layer + 1, off: writeOff(off.filter((each) => each !== layer)) });
    change({ layer: layer + 1, off: writeOff(refusal(network, off, layer) ? off : [...off, layer]) });
  };

  const which = menu("network", "Network", (network) => change({ network, off: "", layer: 0 }));
  const measured = menu("variant", "Measured", (off) => change({ off }));
  const layers = slider("layer", "Layer", (layer) => change({ layer }));
  const tolerance = slider(
    "tol",
    "Tolerance",
    (tol) => change({ tol }),
    (tol) => fixed(tol),
  );
  const one = button("", () => toggle(now.layer));
  const plan = button("Remove what the rule names", () => change({ off: writeOff(now.plan.remove) }));
  const back = button("Put all back", () => change({ off: "" }));
  const chart = el("svg", { role: "img", class: "ml-tap" });
  const legend = el("p", { class: "ml-legend" });
  const bars = el("svg", { role: "img" });
  const say = statement();
  const sayAccuracy = statement();
  const sayLayer = statement();
  const source = el("p", { class: "ml-note" });
  const table = dataTable();
  host.replaceChildren(
    frame(
      "pruning",
      "Pruning explorer",
      el("div", { class: "ml-controls" }, which.node, measured.node, layers.node, tolerance.node),
      el("div", { class: "ml-buttons" }, one, plan, back),
      chart,
      legend,
      el("p", { class: "ml-note" }, "Tap a layer to remove it, again to put it back. Or use the controls."),
      bars,
      say.node,
      sayAccuracy.node,
      sayLayer.node,
      source,
      table.node,
    ),
  );

  function look() {
    const asked = model.get("setting");
    const key = has(networks, asked.network) ? asked.network : Object.keys(networks)[0];
    const network = networks[key];
    const off = readOff(String(asked.off), network);
    const first = network.why.indexOf("");
    const layer = has(network.layers, asked.layer - 1) ? asked.layer - 1 : first;
    const plan = network.plans.find(({ tol }) => tol === asked.tol) ?? network.plans[0];
    const near = nearest(network, off);
    return { key, network, off, layer, plan, near, left: left(network, off) };
  }

  function drawChart() {
    const { network, off, layer, plan, near } = now;
    const { q, std } = network;
    const own = near?.distance === 0 && off.length ? near.variants[0].q : null;
    const kept = q.map((_, i) => i).filter((i) => !off.includes(i));
    const least = Math.min(0, ...q.map((value, i) => value - (std[i] ?? 0)), ...(own ?? []));
    const plot = axes(chart, host, q.length, least, 20);
    plot.here(layer + 1);
    if (std.length) plot.band(q, std, color(0));
    plot.line(q, "currentColor", { thick: 1, dash: "2 4", alpha: 0.5 });
    const main = network.paper ? PAPER : { color: color(0) };
    plot.line(kept.map((i) => [i + 1, q[i]]), main.color, main); // prettier-ignore
    if (own) plot.line(kept.map((i, place) => [i + 1, own[place]]), color(5), { dash: "6 4" }); // prettier-ignore
    const r = q.length > 20 && plot.width < 480 ? 4 : 5.5;
    q.forEach((value, i) => {
      const [x, y] = [plot.x(i + 1), plot.y(value)];
      const d = mark(network.why[i] ? 1 : 0, i === layer ? r + 2 : r);
      const shape = { d, transform: `translate(${x},${y})` };
      const tip = plot.y(value + (std[i] ?? 0)) - 10;
      if (plan.remove.includes(i))
        plot.add(el("path", { d: mark(4, 4), transform: `translate(${x},${tip})`, fill: color(1) }));
      plot.add(
        off.includes(i)
          ? el("path", { ...shape, d: `${d}M${-r},${-r}L${r},${r}M${-r},${r}L${r},${-r}`, ...HOLLOW })
          : el("path", { ...shape, fill: network.why[i] ? "currentColor" : main.color }),
      );
    });
    plot.show(say.node.textContent);
    chart.onclick = (event) => toggle(plot.layerAt(event) - 1);
    legend.replaceChildren(
      sample("stays", el("path", { d: mark(0, 5), fill: main.color })),
      sample("cannot go", el("path", { d: mark(1, 5), fill: "currentColor" })),
      sample("removed", el("path", { d: mark(0, 5) + "M-5,-5L5,5M-5,5L5,-5", ...HOLLOW })),
      sample("named by the rule", el("path", { d: mark(4, 5), fill: color(1) })),
      network.paper ? sample("the paper, Fig. 4", stroke(PAPER.color, PAPER)) : "",
      own ? sample("the pruned network’s own curve, measured", stroke(color(5), { dash: "6 4" })) : "",
    );
  }

  function drawBars() {
    const { network, left } = now;
    const width = Math.max(host.clientWidth, 280);
    bars.setAttribute("viewBox", `0 0 ${width} 56`);
    bars.setAttribute("aria-label", say.node.textContent);
    bars.replaceChildren(
      ...[
        ["macs", "MACs"],
        ["params", "parameters"],
      ].flatMap(([kind, words], row) => {
        const share = left[kind] / network.whole[kind];
        const full = width - 96 - 130;
        const y = 6 + 26 * row;
        return [
          el("text", { x: 90, y: y + 14, "font-size": 13, "text-anchor": "end", class: "ml-small" }, words),
          el("rect", { x: 96, y, width: full, height: 18, fill: "currentColor", "fill-opacity": 0.09 }),
          el("rect", { x: 96, y, width: full * share, height: 18, fill: color(0) }),
          el(
            "text",
            { x: width - 2, y: y + 14, "font-size": 13, "text-anchor": "end" },
            `${million(left[kind])}, ${percent(share)}`,
          ),
        ];
      }),
    );
  }

  const names = (list) => list.map((i) => now.network.layers[i]).join(", ");
  const result = ({ start, tune_epochs, at_once, pruned, behind }) =>
    `${fixed(pruned, 2)}\u00a0% after ${tune_epochs} epoch${tune_epochs === 1 ? "" : "s"} of ` +
    (start ? `fine-tuning from ${start} (${fixed(at_once, 2)}\u00a0% before it)` : "training from scratch") +
    (behind === null
      ? "; the whole network, fine-tuned for as long, was not measured"
      : `, ${fixed(Math.abs(behind), 2)} points ${behind > 0 ? "below" : "above"} the whole network fine-tuned for as long ` +
        `(${fixed(pruned + behind, 2)}\u00a0%)`);

  const verdict = (plan, i) => now.network.words[plan.verdicts[i]];

  function words() {
    const { network, off, layer, plan, near, left } = now;
    const fewer = (kind) => percent(1 - left[kind] / network.whole[kind]);
    const costs =
      `${million(left.macs)} of ${million(network.whole.macs)} MACs (${fewer("macs")} fewer), ` +
      `${million(left.params)} of ${million(network.whole.params)} parameters (${fewer("params")} fewer).`;
    const many = off.length > 8 ? "" : ` (${names(off)})`;
    say.show(
      off.length
        ? `${network.title} without ${off.length} of ${network.layers.length} layers${many}: ${costs}`
        : `${network.title}, whole: ${million(left.macs)} MACs, ${million(left.params)} parameters.`,
    );
    if (!off.length)
      sayAccuracy.show(
        network.whole.accuracy
          ? `Accuracy of the whole network, as trained: ${fixed(network.whole.accuracy, 2)}\u00a0%` +
              network.whole.tuned
                .map(([epochs, right]) => `; fine-tuned for ${epochs} more epochs: ${fixed(right, 2)}\u00a0%`)
                .join("") +
              "."
          : "",
      );
    else if (!near) sayAccuracy.show("Accuracy: not measured, nor that of any other variant of this network.");
    else {
      const { variants, distance } = near;
      const results = distinct(variants.map(result)).join("; ");
      const [more, less] = [off, variants[0].removed].map((list, i, both) =>
        list.filter((each) => !both[1 - i].includes(each)),
      );
      const differences = [
        more.length ? `it still has ${names(more)}` : "",
        less.length ? `it lacks ${names(less)}` : "",
      ];
      sayAccuracy.show(
        distance
          ? `Accuracy: not measured. The nearest measured variant (${ways(variants)}) is another network: ` +
              `${differences.filter(Boolean).join(", and ")}. Measured there: ${results}.`
          : `Accuracy of this network (${ways(variants)}), measured: ${results}.`,
      );
    }
    const why = off.includes(layer) ? "" : refusal(network, off, layer);
    const spare = (kind) => percent(network[kind][layer] / network.whole[kind]);
    sayLayer.show(
      `Layer ${layer + 1} (${network.layers[layer]}): Q = ${fixed(network.q[layer])}${network.std.length ? ` ± ${fixed(network.std[layer])}` : ""}; ` +
        `${spare("macs")} of the MACs, ${spare("params")} of the parameters. ` +
        (why ? `It cannot go: ${why}. ` : "") +
        `The rule at tolerance ${fixed(plan.tol)} says: ${verdict(plan, layer)}.`,
    );
    const drawn = network.paper ? "read off Fig. 4" : `mean and standard deviation of ${network.draws} draws`;
    source.textContent = `${recipeWords(network.about)} · curve: ${drawn}, N = ${network.n}, k = ${network.k}`;
  }

  function draw() {
    now = look();
    const { key, network, off, layer, plan: named, near } = now;
    which.show(
      key,
      Object.entries(networks).map(([key, { title }]) => [key, title]),
    );
    const known = near?.distance === 0;
    const none = [["", network.variants.length ? NONE : "nothing yet"]];
    measured.show(known ? writeOff(off) : "", [...offers(network), ...(known ? [] : none)]);
    layers.show(
      layer + 1,
      network.layers.map((_, i) => i + 1),
    );
    tolerance.show(
      named.tol,
      network.plans.map(({ tol }) => tol),
    );
    one.textContent = `${off.includes(layer) ? "Put back" : "Remove"} layer ${layer + 1}`;
    one.disabled = !off.includes(layer) && refusal(network, off, layer) !== "";
    plan.disabled = !named.remove.length || writeOff(named.remove) === writeOff(off);
    back.disabled = !off.length;
    words();
    drawChart();
    drawBars();
    table.show(["Layer", "module", "Q", "± std", "MACs", "parameters", "the rule", "here"], () =>
      network.layers.map((name, i) => [
        i + 1,
        name,
        fixed(network.q[i], 4),
        network.std.length ? fixed(network.std[i], 4) : "",
        network.macs[i],
        network.params[i],
        verdict(named, i),
        off.includes(i) ? "is removed" : network.why[i] ? "cannot go" : "stays",
      ]),
    );
  }

  const view = follow(model, draw, host, () => (drawChart(), drawBars()));
  return view.stop;
}

const HOLLOW = { fill: "none", stroke: "currentColor", "stroke-width": 1.5 };

export default { render };
