/* The pruning explorer: layers are taken off a recorded curve; what is left of MACs and parameters follows exactly, and
   what accuracy was measured for this network, or for the nearest one that was. Layers are counted from 0 in the data,
   from 1 in the address and on the page. */

import { button, color, dataTable, el, fixed, follow, frame, mark, menu, percent, slider, statement } from "./kit.js";

const NONE = "none of these";
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
    if (layer in network.layers && !off.includes(layer) && !refusal(network, off, layer)) off.push(layer);
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
  const table = dataTable("The numbers behind the picture");
  host.replaceChildren(
    frame(
      "pruning",
      "Pruning explorer",
      el("div", { class: "ml-controls" }, which.node, measured.node),
      chart,
      legend,
      el("p", { class: "ml-note" }, "Tap a layer to remove it, again to put it back. Or use the controls."),
      el("div", { class: "ml-controls" }, layers.node, tolerance.node),
      el("div", { class: "ml-buttons" }, one, plan, back),
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
    const key = asked.network in networks ? asked.network : Object.keys(networks)[0];
    const network = networks[key];
    const off = readOff(String(asked.off), network);
    const first = network.why.indexOf("");
    const layer = asked.layer - 1 in network.layers ? asked.layer - 1 : first;
    const plan = network.plans.find(({ tol }) => tol === asked.tol) ?? network.plans[0];
    const near = nearest(network, off);
    return { key, network, off, layer, plan, near, left: left(network, off) };
  }

  function drawChart() {
    const { network, off, layer, plan, near } = now;
    const { q, std } = network;
    const width = Math.max(host.clientWidth, 280);
    const height = Math.round(Math.min(340, Math.max(230, width * 0.48)));
    const own = near?.distance === 0 && off.length ? near.variants[0].q : null;
    const kept = q.map((_, i) => i).filter((i) => !off.includes(i));
    const least = Math.min(0, ...q.map((value, i) => value - std[i]), ...(own ?? []));
    const low = least < -0.005 ? Math.floor(10 * least) / 10 : 0;
    const x = (i) => 46 + (i / (q.length - 1)) * (width - 62);
    const y = (value) => 20 + ((1 - value) / (1 - low)) * (height - 64);
    const path = (points) => "M" + points.map(([i, value]) => `${x(i).toFixed(1)},${y(value).toFixed(1)}`).join("L");
    const step = [1, 2, 5, 10].find((each) => (q.length / each) * 24 < width - 62);
    const small = { "font-size": 12, class: "ml-small" };
    const parts = [0, 0.2, 0.4, 0.6, 0.8, 1].flatMap((value) => [
      el("line", { x1: 40, x2: width - 10, y1: y(value), y2: y(value), class: value ? "ml-grid" : "ml-axis" }),
      el("text", { ...small, x: 34, y: y(value) + 4, "text-anchor": "end" }, value),
    ]);
    for (let i = 0; i < q.length; i += step)
      parts.push(el("text", { ...small, x: x(i), y: height - 26, "text-anchor": "middle" }, i + 1));
    const named = { "font-size": 13, "text-anchor": "middle" };
    parts.push(
      el("text", { ...named, x: 46 + (width - 62) / 2, y: height - 6 }, "layer"),
      el("text", { ...named, transform: `translate(11,${height / 2 - 12}) rotate(-90)` }, "modularity Q"),
      el("line", { x1: x(layer), x2: x(layer), y1: 12, y2: y(low), class: "ml-here" }),
      el("path", {
        d:
          path(q.map((value, i) => [i, value + std[i]])) +
          path(q.map((value, i) => [i, value - std[i]]).reverse()).replace("M", "L") +
          "Z",
        fill: color(0),
        "fill-opacity": 0.15,
      }),
      el("path", {
        d: path(q.map((value, i) => [i, value])),
        class: "ml-here",
        fill: "none",
        "stroke-dasharray": "2 3",
      }),
      el("path", { d: path(kept.map((i) => [i, q[i]])), fill: "none", stroke: color(0), "stroke-width": 2 }),
    );
    if (own)
      parts.push(
        el("path", {
          d: path(kept.map((i, place) => [i, own[place]])),
          fill: "none",
          stroke: color(5),
          "stroke-width": 2,
          "stroke-dasharray": "6 4",
        }),
      );
    const r = q.length > 20 && width < 480 ? 4 : 5.5;
    q.forEach((value, i) => {
      const gone = off.includes(i);
      const shape = {
        d: mark(network.why[i] ? 1 : 0, i === layer ? r + 2 : r),
        transform: `translate(${x(i)},${y(value)})`,
      };
      if (plan.remove.includes(i))
        parts.push(
          el("path", { d: mark(4, 4), transform: `translate(${x(i)},${y(value + std[i]) - 10})`, fill: color(1) }),
        );
      parts.push(
        gone
          ? el("path", { ...shape, d: `${shape.d}M${-r},${-r}L${r},${r}M${-r},${r}L${r},${-r}`, ...HOLLOW })
          : el("path", { ...shape, fill: network.why[i] ? "currentColor" : color(0) }),
      );
    });
    chart.setAttribute("viewBox", `0 0 ${width} ${height}`);
    chart.setAttribute("aria-label", say.node.textContent);
    chart.replaceChildren(...parts);
    chart.onclick = (event) => {
      const box = chart.getBoundingClientRect();
      const place = ((((event.clientX - box.left) / box.width) * width - 46) / (width - 62)) * (q.length - 1);
      toggle(Math.min(Math.max(Math.round(place), 0), q.length - 1));
    };
    const sample = (words, ...drawn) =>
      el(
        "span",
        {},
        el("svg", { width: 26, height: 14, viewBox: "-13 -7 26 14", "aria-hidden": "true" }, drawn),
        words,
      );
    legend.replaceChildren(
      sample("stays", el("path", { d: mark(0, 5), fill: color(0) })),
      sample("cannot go", el("path", { d: mark(1, 5), fill: "currentColor" })),
      sample("removed", el("path", { d: mark(0, 5) + "M-5,-5L5,5M-5,5L5,-5", ...HOLLOW })),
      sample("named by the rule", el("path", { d: mark(4, 5), fill: color(1) })),
      own
        ? sample(
            "the pruned network’s own curve, measured",
            el("line", {
              x1: -12,
              x2: 12,
              y1: 0,
              y2: 0,
              stroke: color(5),
              "stroke-width": 2,
              "stroke-dasharray": "6 4",
            }),
          )
        : "",
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
  const result = ({ start, tune_epochs, at_once, pruned, whole }) =>
    `${fixed(pruned, 2)}\u00a0% after ${tune_epochs} epoch${tune_epochs === 1 ? "" : "s"} of training ${start}` +
    (start === "from scratch" ? "" : ` (${fixed(at_once, 2)}\u00a0% at once)`) +
    `, ${fixed(Math.abs(whole - pruned), 2)} points ${pruned < whole ? "below" : "above"} the whole network`;

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
      sayAccuracy.show(network.whole.accuracy ? `Measured: ${fixed(network.whole.accuracy, 2)}\u00a0%.` : "");
    else if (!near) sayAccuracy.show("Accuracy: not measured, nor that of any other variant of this network.");
    else {
      const { variants, distance } = near;
      const results = variants.map(result).join("; ");
      const [more, less] = [off, variants[0].removed].map((list, i, both) =>
        list.filter((each) => !both[1 - i].includes(each)),
      );
      const differences = [
        more.length ? `it still has ${names(more)}` : "",
        less.length ? `it lacks ${names(less)}` : "",
      ];
      sayAccuracy.show(
        distance
          ? `Accuracy: not measured. The nearest measured variant (${variants[0].title}) is another network: ` +
              `${differences.filter(Boolean).join(", and ")}. Measured there: ${results}.`
          : `Accuracy of this network (${variants[0].title}), measured: ${results}.`,
      );
    }
    const why = off.includes(layer) ? "" : refusal(network, off, layer);
    const spare = (kind) => percent(network[kind][layer] / network.whole[kind]);
    sayLayer.show(
      `Layer ${layer + 1} (${network.layers[layer]}): Q = ${fixed(network.q[layer])} ± ${fixed(network.std[layer])}; ` +
        `${spare("macs")} of the MACs, ${spare("params")} of the parameters. ` +
        (why ? `It cannot go: ${why}. ` : "") +
        `The rule at tolerance ${fixed(plan.tol)} says: ${plan.verdicts[layer]}.`,
    );
    source.textContent = `${network.about} · curve: mean and standard deviation of ${network.draws} draws, N = ${network.n}, k = ${network.k}`;
  }

  function draw() {
    now = look();
    const { key, network, off, layer, plan: named, near } = now;
    which.show(
      key,
      Object.entries(networks).map(([key, { title }]) => [key, title]),
    );
    const offers = new Map(network.variants.map(({ removed, title }) => [writeOff(removed), title]));
    if (!offers.has(writeOff(off))) offers.set("", network.variants.length ? NONE : "nothing yet");
    measured.show(near?.distance === 0 ? writeOff(off) : "", [...offers]);
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
    plan.hidden = !named.remove.length || writeOff(named.remove) === writeOff(off);
    back.hidden = !off.length;
    words();
    drawChart();
    drawBars();
    table.show(["Layer", "module", "Q", "± std", "MACs", "parameters", "the rule", "here"], () =>
      network.layers.map((name, i) => [
        i + 1,
        name,
        fixed(network.q[i], 4),
        fixed(network.std[i], 4),
        network.macs[i],
        network.params[i],
        named.verdicts[i],
        off.includes(i) ? "is removed" : network.why[i] ? "cannot go" : "stays",
      ]),
    );
  }

  const view = follow(model, draw);
  const watch = new ResizeObserver(() => (drawChart(), drawBars()));
  watch.observe(host);
  return () => {
    watch.disconnect();
    view.stop();
  };
}

const HOLLOW = { fill: "none", stroke: "currentColor", "stroke-width": 1.5 };

export default { render };
