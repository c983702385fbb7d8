/* The modularity explorer: curves over the layers, from recorded measurements; with a kernel also what Python computes.
   Series come from Python: axes n, k and epoch, and numbers packed in the order n, k, epoch, layer. */

import {
  PAPER,
  axes,
  button,
  choice,
  color,
  dataTable,
  el,
  fixed,
  follow,
  frame,
  has,
  menu,
  percent,
  recipeWords,
  sample,
  slider,
  statement,
  stroke,
  unpack,
} from "./kit.js";

const PARTS = ["model", "dataset", "weights", "attack"];
const CLEAN = "none";
const READINGS = { conv: "convolution", relu: "ReLU" };
const nearest = (list, value) =>
  list.reduce((best, each) => (Math.abs(each - value) < Math.abs(best - value) ? each : best), list[0]);
const distinct = (list) => [...new Set(list)];

const opened = (series) => ({
  ...series,
  mean: unpack(series.mean),
  clean: series.clean && unpack(series.clean),
  std: series.std && unpack(series.std, "u1", series.step),
});

/** The setting that can be shown, as near as possible to the one asked for; later parts give way to earlier ones. */
export function fit(series, setting) {
  const fitted = { ...setting };
  let left = series;
  for (const part of PARTS) {
    const values = distinct(left.map((each) => each[part]));
    if (!values.includes(fitted[part])) fitted[part] = values[0];
    left = left.filter((each) => each[part] === fitted[part]);
  }
  const readings = distinct(left.flatMap((each) => Object.keys(each.readings)));
  if (!readings.includes(fitted.reading)) fitted.reading = readings[0];
  return fitted;
}

/** The series that hold a curve of these parts and this reading. */
export const alike = (series, setting) =>
  series.filter((each) => PARTS.every((part) => each[part] === setting[part]) && has(each.readings, setting.reading));

/** One curve of a series: {q, std, layers} at n, k and epoch, or null if it is not there. */
export function curve(series, { n, k, epoch, reading }) {
  const places = [series.n.indexOf(n), series.k.indexOf(k), series.epochs.length ? series.epochs.indexOf(epoch) : 0];
  if (places.includes(-1) || !has(series.readings, reading)) return null;
  const width = series.layers.length;
  const start = ((places[0] * series.k.length + places[1]) * Math.max(series.epochs.length, 1) + places[2]) * width;
  const pick = (list) => series.readings[reading].map((layer) => list[start + layer]);
  return {
    q: pick(series.mean),
    std: series.std ? pick(series.std) : null,
    layers: series.readings[reading].map((i) => series.layers[i]),
  };
}

/** What a figure of the paper shows at a setting, {figure, q}, or null. */
export const paperCurve = (paper, { model, dataset, weights, attack, n, k, reading, last }) =>
  weights.startsWith("train") && reading === "conv" && last
    ? (paper[[model, dataset, attack, n, k].join(" ")] ?? null) // a key holds spaces: none of every object's
    : null;

const KEPT = [...PARTS, "reading", "n", "k", "epoch"];
const writeKept = (setting) => KEPT.map((key) => setting[key]).join("*");
function readKept(text) {
  const values = text.split("*");
  if (values.length !== KEPT.length) return null;
  return Object.fromEntries(KEPT.map((key, i) => [key, i > 4 ? Number(values[i]) : values[i]]));
}

function render({ model, el: host }) {
  const recorded = model.get("data").series.map(opened);
  const { paper, words: NAMES } = model.get("data");
  const named = (value) => (has(NAMES, value) ? NAMES[value] : value);
  const computed = new Map(); // series that Python has computed for this page
  let live = null; // what a kernel can compute: {series, n, k}
  let asked = null; // what Python is computing
  let ticket = Math.floor(Math.random() * 1e9); // another view of the same widget counts from elsewhere
  let failed = false;
  let now;
  const change = (more) => view.set(more);

  const menus = {
    model: menu("model", "Network", (value) => change({ model: value })),
    dataset: menu("dataset", "Images", (value) => change({ dataset: value })),
    weights: menu("weights", "Weights", (value) => change({ weights: value })),
    attack: menu("attack", "Attack", (value) => change({ attack: value })),
  };
  const reading = choice("reading", "Read after", (value) => change({ reading: value }));
  const sliders = {
    n: slider("n", "Images N", (value) => change({ n: value })),
    k: slider("k", "Neighbours k", (value) => change({ k: value })),
    epoch: slider("epoch", "Epoch", (value) => change({ epoch: value })),
    layer: slider("layer", "Layer", (value) => change({ layer: value })),
  };
  const chart = el("svg", { role: "img", class: "ml-tap" });
  const legend = el("p", { class: "ml-legend" });
  const say = statement();
  const sayLayer = statement();
  const source = el("p", { class: "ml-note" });
  const bar = el("progress", { max: 1, value: 0, "aria-label": "Computing" });
  const busy = el("p", { class: "ml-busy", hidden: true }, bar, el("span", { role: "status" }));
  const error = el("p", { class: "ml-error", role: "alert" });
  const keep = button("Keep this curve", () => change({ kept: writeKept(now.setting) }));
  const drop = button("Drop the kept curve", () => change({ kept: "" }));
  const table = dataTable();
  host.replaceChildren(
    frame(
      "explorer",
      "Modularity explorer",
      el(
        "div",
        { class: "ml-controls" },
        Object.values(menus).map(({ node }) => node),
        reading.node,
        Object.values(sliders).map(({ node }) => node),
      ),
      chart,
      legend,
      say.node,
      sayLayer.node,
      source,
      busy,
      error,
      el("div", { class: "ml-buttons" }, keep, drop),
      table.node,
    ),
  );

  /** Everything to be shown at the present setting. */
  function look() {
    const series = [...recorded, ...computed.values()];
    const offered = [...series, ...(live?.series ?? [])];
    const setting = fit(offered, model.get("setting"));
    const found = alike(series, setting);
    const open = alike(live?.series ?? [], setting).length > 0; // a kernel can compute it
    const lists = Object.fromEntries(
      ["n", "k"].map((axis) => [
        axis,
        distinct([...found.flatMap((each) => each[axis]), ...(open ? live[axis] : [])]).sort((a, b) => a - b),
      ]),
    );
    lists.k = lists.k.filter((k) => k < Math.max(...lists.n));
    for (const axis of ["n", "k"]) setting[axis] = nearest(lists[axis], setting[axis]);
    let at = found.find((each) => each.n.includes(setting.n) && each.k.includes(setting.k));
    if (!at && !open) {
      // not every series has every n and k: the nearest that was measured
      at = found[0];
      for (const axis of ["n", "k"]) setting[axis] = nearest(at[axis], setting[axis]);
    }
    lists.epoch = at?.epochs ?? [];
    if (lists.epoch.length) setting.epoch = lists.epoch.includes(setting.epoch) ? setting.epoch : lists.epoch.at(-1);
    setting.last = !lists.epoch.length || setting.epoch === lists.epoch.at(-1);
    const main = at && curve(at, setting);
    const others = [];
    const behind = (words, look, other) => other && others.push({ words, ...look, ...other });
    const printed = paperCurve(paper, setting);
    behind(`the paper, ${printed?.figure}`, PAPER, printed && { q: printed.q });
    if (main && at.clean)
      behind("the same images before", { color: color(2), dash: "2 3" }, curve({ ...at, mean: at.clean, std: null }, setting));
    const kept = readKept(model.get("setting").kept);
    if (kept)
      behind(
        `kept: ${full(kept, alike(series, kept))}`,
        { color: color(5) },
        alike(series, kept)
          .map((each) => curve(each, kept))
          .find(Boolean),
      );
    return { setting, offered, lists, at, main, others, name: kept && at ? full(setting, [at]) : title(setting) };
  }

  const title = ({ model, dataset, weights, attack }) =>
    `${named(model)} on ${named(dataset)}, ${named(weights)}${attack === CLEAN ? "" : `, ${named(attack)}`}`;

  /** Everything that may tell a curve from another one. */
  function full(setting, series) {
    const { reading, n, k, epoch } = setting;
    const epochs = series.some((each) => each.epochs.length);
    const both = series.some((each) => Object.keys(each.readings).length > 1);
    return [
      title(setting),
      epochs && `after epoch ${epoch}`,
      both && `read after ${READINGS[reading]}`,
      `N = ${n}`,
      `k = ${k}`,
    ]
      .filter(Boolean)
      .join(", ");
  }

  function drawChart() {
    const { name, at, main, others, setting } = now;
    const lines = [...others, ...(main ? [{ color: color(0), main: true, ...main }] : [])];
    const depth = Math.max(2, ...lines.map(({ q }) => q.length));
    const passed = main ? at.epochs.map((epoch) => curve(at, { ...setting, epoch }).q) : []; // the other epochs, faintly
    const least = Math.min(
      0,
      ...passed.flat(),
      ...lines.flatMap(({ q, std }) => q.map((value, i) => value - (std?.[i] ?? 0))),
    );
    const plot = axes(chart, host, depth, least);
    if (main) plot.here(setting.layer);
    for (const q of passed) plot.line(q, "currentColor", { thick: 1, alpha: 0.18 });
    for (const { q, std, color, dash, main } of lines) {
      if (std) plot.band(q, std, color);
      plot.line(q, color, { dash, thick: main ? 2.5 : 1.8 });
      const r = (layer) => (main ? (layer === setting.layer ? 6 : 3.5) : 2);
      if (q.length < 60)
        plot.add(
          ...q.map((value, i) => el("circle", { cx: plot.x(i + 1), cy: plot.y(value), r: r(i + 1), fill: color })),
        );
    }
    plot.show(say.node.textContent);
    chart.onpointerdown = chart.onpointermove = (event) => {
      if (event.type === "pointermove" && event.pointerType === "touch") return; // the page scrolls
      const layer = plot.layerAt(event);
      if (main && layer <= main.q.length && layer !== now.setting.layer) change({ layer });
    };
    legend.replaceChildren(
      ...[...lines].reverse().map((line) => {
        const band = line.std ? ` (band: ± one standard deviation of ${now.at.draws} draws)` : "";
        const thick = line.main ? 3 : 2;
        return sample(line.main ? name + band : line.words, stroke(line.color, { ...line, thick }));
      }),
      passed.length > 1 ? sample("after the other epochs", stroke("currentColor", { thick: 0.5 })) : "",
    );
  }

  function words() {
    const { setting, at, main, others } = now;
    if (!main) {
      say.show(`${title(setting)}, N = ${setting.n}, k = ${setting.k}: ${failed ? "not computed" : "being computed"}.`);
      sayLayer.show("");
      source.textContent = "";
      return;
    }
    const { q, std, layers } = main;
    const peak = q.indexOf(Math.max(...q));
    const accuracy = at.accuracy[at.epochs.length ? at.epochs.indexOf(setting.epoch) : 0];
    const right = accuracy === undefined ? "" : `test accuracy ${percent(accuracy / 100)}`;
    const during = at.epochs.length ? `, here after epoch ${setting.epoch} of ${at.epochs.at(-1)} (${right})` : "";
    say.show(
      `${title(setting)}${during}, N = ${setting.n}, k = ${setting.k}: Q goes from ${fixed(q[0])} in layer 1 to ` +
        `${fixed(q.at(-1))} in layer ${q.length}` +
        (peak === q.length - 1 ? ", its largest value." : `; it is largest in layer ${peak + 1}, ${fixed(q[peak])}.`),
    );
    const i = setting.layer - 1;
    const beside = others
      .filter((other) => other.q.length === q.length)
      .map((other) => `${other.words}: ${fixed(other.q[i])}`);
    const value = `Q = ${fixed(q[i])}${std ? ` ± ${fixed(std[i])}` : ""}`;
    sayLayer.show(`Layer ${setting.layer} (${layers[i]}): ${[value, ...beside].join("; ")}.`);
    const day = new Date(at.date).toLocaleDateString("en-GB", {
      day: "numeric",
      month: "long",
      year: "numeric",
      timeZone: "UTC",
    });
    const made = at.computed ? (live ? "Computed now" : `Computed on ${day}`) : `Recorded on ${day}`;
    source.textContent = [
      made,
      at.device,
      right,
      recipeWords(at.about),
      `${at.draws} draw${at.draws === 1 ? "" : "s"}`,
    ]
      .filter(Boolean)
      .join(" · ");
  }

  function draw() {
    now = look();
    const { setting, offered, lists, main, others } = now;
    setting.layer = main ? Math.min(Math.max(model.get("setting").layer || main.q.length, 1), main.q.length) : 0;
    let left = offered;
    for (const part of PARTS) {
      const values = distinct(left.map((each) => each[part]));
      menus[part].show(
        setting[part],
        values.map((value) => [value, named(value) + (/^(vit|cct)\d/.test(value) ? ", a transformer" : "")]),
      );
      menus[part].node.hidden = part === "attack" && values.length < 2;
      left = left.filter((each) => each[part] === setting[part]);
    }
    const readings = distinct(left.flatMap((each) => Object.keys(each.readings)));
    reading.show(
      setting.reading,
      Object.entries(READINGS).filter(([value]) => readings.includes(value)),
    );
    reading.node.hidden = readings.length < 2;
    for (const axis of ["n", "k", "epoch"]) {
      sliders[axis].node.hidden = lists[axis].length < 2;
      if (lists[axis].length) sliders[axis].show(setting[axis], lists[axis]);
    }
    sliders.layer.show(setting.layer, main ? main.q.map((_, i) => i + 1) : [0]);
    drop.hidden = !model.get("setting").kept;
    words();
    drawChart();
    table.show(["Layer", "module", "Q", "± std", ...others.map((other) => other.words)], () =>
      (main?.q ?? []).map((value, i) => [
        i + 1,
        main.layers[i],
        fixed(value, 4),
        main.std ? fixed(main.std[i], 4) : "",
        ...others.map(({ q }) => (i < q.length ? fixed(q[i], 4) : "")),
      ]),
    );
    ask();
  }

  /** Have Python compute what is not there; any later move takes the request back. */
  function ask() {
    if (!live) return;
    const { model: network, dataset, weights, reading, n } = now.setting;
    const key = JSON.stringify([network, dataset, weights, reading, n]); // one search for neighbours serves every k
    if (key === asked) return; // running, or failed
    if (asked) model.send({ kind: "stop" });
    asked = now.main ? null : key;
    failed = false;
    error.textContent = "";
    busy.hidden = !asked;
    if (asked) model.send({ kind: "ask", ticket: ++ticket, model: network, dataset, weights, reading, n });
  }

  function hear(message) {
    if (message.kind === "alive") {
      live = message;
      return draw();
    }
    if (message.ticket !== ticket) return;
    if (message.kind === "progress") {
      bar.value = message.share;
      busy.lastChild.textContent = message.words;
    }
    if (message.kind === "series") {
      const { model, dataset, weights, n, readings } = message.series;
      computed.set(JSON.stringify([model, dataset, weights, n, readings]), opened(message.series));
      busy.hidden = message.last;
      if (message.last) asked = null;
      draw();
    }
    if (message.kind === "error") {
      failed = busy.hidden = true;
      error.textContent = message.words;
      words();
    }
  }

  model.on("msg:custom", hear);
  const view = follow(model, draw, host, drawChart);
  try {
    model.send({ kind: "hello" }); // a kernel answers; a page without one does not
  } catch {}
  return () => {
    model.off("msg:custom", hear);
    view.stop();
  };
}

export default { render };
