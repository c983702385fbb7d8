/* The modularity explorer: curves over the layers, from recorded measurements; with a kernel also what Python computes.
   Series come from Python: axes n, k and epoch, and numbers packed in the order n, k, epoch, layer. */

import {
  button,
  choice,
  color,
  dataTable,
  el,
  fixed,
  follow,
  frame,
  menu,
  percent,
  slider,
  statement,
  unpack,
} from "./kit.js";

const PARTS = ["model", "dataset", "weights", "attack"];
const NAMES = {
  cifar10: "CIFAR-10",
  cifar100: "CIFAR-100",
  tinyimagenet50: "Tiny-ImageNet, 50 classes",
  imagenet: "ImageNet",
};
const named = (name) =>
  NAMES[name] ?? name.replace(/^(resnet|vgg)(?=\d)/, (family) => ({ resnet: "ResNet", vgg: "VGG" })[family]);
const nearest = (list, value) =>
  list.reduce((best, each) => (Math.abs(each - value) < Math.abs(best - value) ? each : best), list[0]);
const distinct = (list) => [...new Set(list)];

const opened = (series) => ({
  ...series,
  mean: unpack(series.mean),
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
  series.filter((each) => PARTS.every((part) => each[part] === setting[part]) && setting.reading in each.readings);

/** One curve of a series: {q, std, layers} at n, k and epoch, or null if it is not there. */
export function curve(series, { n, k, epoch, reading }) {
  const places = [series.n.indexOf(n), series.k.indexOf(k), series.epochs.length ? series.epochs.indexOf(epoch) : 0];
  if (places.includes(-1) || !(reading in series.readings)) return null;
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
    ? (paper[[model, dataset, attack, n, k].join(" ")] ?? null)
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
  const paper = model.get("data").paper;
  const computed = []; // series that Python has computed for this page
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
  const table = dataTable("The numbers behind the picture");
  host.replaceChildren(
    frame(
      "explorer",
      "Modularity explorer",
      el(
        "div",
        { class: "ml-controls" },
        Object.values(menus).map(({ node }) => node),
        reading.node,
      ),
      chart,
      legend,
      el(
        "div",
        { class: "ml-controls" },
        Object.values(sliders).map(({ node }) => node),
      ),
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
    const series = [...recorded, ...computed];
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
    const behind = (words, hue, other, dash) => other && others.push({ words, color: hue, dash, ...other });
    const printed = paperCurve(paper, setting);
    behind(`the paper, ${printed?.figure}`, "currentColor", printed && { q: printed.q }, "6 4");
    if (setting.attack !== "none") {
      const clean = { ...setting, attack: "none" };
      behind(
        "clean images",
        color(2),
        alike(series, clean)
          .map((each) => curve(each, clean))
          .find(Boolean),
        "2 3",
      );
    }
    const kept = readKept(model.get("setting").kept);
    if (kept)
      behind(
        `kept: ${title(kept)}, N = ${kept.n}, k = ${kept.k}`,
        color(5),
        alike(series, kept)
          .map((each) => curve(each, kept))
          .find(Boolean),
      );
    return { setting, offered, lists, at, main, others };
  }

  const title = ({ model, dataset, weights, attack }) =>
    `${named(model)} on ${named(dataset)}, ${weights}${attack === "none" ? "" : `, attacked by ${attack}`}`;

  function drawChart() {
    const { main, others, setting } = now;
    const width = Math.max(host.clientWidth, 280);
    const height = Math.round(Math.min(340, Math.max(230, width * 0.48)));
    const lines = [...others, ...(main ? [{ color: color(0), main: true, ...main }] : [])];
    const depth = Math.max(2, ...lines.map(({ q }) => q.length));
    const least = Math.min(0, ...lines.flatMap(({ q, std }) => q.map((value, i) => value - (std?.[i] ?? 0))));
    const low = least < -0.005 ? Math.floor(10 * least) / 10 : 0;
    const x = (layer) => 46 + ((layer - 1) / (depth - 1)) * (width - 62);
    const y = (q) => 12 + ((1 - q) / (1 - low)) * (height - 56);
    const path = (q) => "M" + q.map((value, i) => `${x(i + 1).toFixed(1)},${y(value).toFixed(1)}`).join("L");
    const step = [1, 2, 5, 10].find((each) => (depth / each) * 24 < width - 62);
    const parts = [0, 0.2, 0.4, 0.6, 0.8, 1].flatMap((q) => [
      el("line", { x1: 40, x2: width - 10, y1: y(q), y2: y(q), class: q ? "ml-grid" : "ml-axis" }),
      el("text", { x: 34, y: y(q) + 4, "font-size": 12, "text-anchor": "end", class: "ml-small" }, q),
    ]);
    for (let layer = step; layer <= depth; layer += step) {
      parts.push(
        el("text", { x: x(layer), y: height - 26, "font-size": 12, "text-anchor": "middle", class: "ml-small" }, layer),
      );
    }
    parts.push(
      el("text", { x: 46 + (width - 62) / 2, y: height - 6, "font-size": 13, "text-anchor": "middle" }, "layer"),
      el(
        "text",
        {
          x: 0,
          y: 0,
          transform: `translate(11,${(height - 44) / 2}) rotate(-90)`,
          "font-size": 13,
          "text-anchor": "middle",
        },
        "modularity Q",
      ),
    );
    if (main && setting.layer)
      parts.push(el("line", { x1: x(setting.layer), x2: x(setting.layer), y1: 12, y2: y(low), class: "ml-here" }));
    for (const { q, std, color, dash, main } of lines) {
      if (std) {
        const edge = (sign) => q.map((value, i) => value + sign * std[i]);
        parts.push(
          el("path", {
            d:
              path([...edge(1)]) +
              "L" +
              q
                .map((_, i) => q.length - 1 - i)
                .map((i) => `${x(i + 1).toFixed(1)},${y(q[i] - std[i]).toFixed(1)}`)
                .join("L") +
              "Z",
            fill: color,
            "fill-opacity": 0.2,
          }),
        );
      }
      parts.push(
        el("path", {
          d: path(q),
          fill: "none",
          stroke: color,
          "stroke-width": main ? 2.5 : 1.8,
          "stroke-dasharray": dash,
          "stroke-linejoin": "round",
        }),
      );
      if (q.length < 60)
        parts.push(
          ...q.map((value, i) =>
            el("circle", {
              cx: x(i + 1),
              cy: y(value),
              r: main ? (i + 1 === setting.layer ? 6 : 3.5) : 2,
              fill: color,
            }),
          ),
        );
    }
    chart.setAttribute("viewBox", `0 0 ${width} ${height}`);
    chart.setAttribute("aria-label", say.node.textContent);
    chart.replaceChildren(...parts);
    chart.onpointerdown = chart.onpointermove = (event) => {
      if (event.type === "pointermove" && event.pointerType === "touch") return; // the page scrolls
      const box = chart.getBoundingClientRect();
      const at = ((event.clientX - box.left) / box.width) * width;
      const layer = Math.round(1 + ((at - 46) / (width - 62)) * (depth - 1));
      if (main && layer >= 1 && layer <= main.q.length && layer !== now.setting.layer) change({ layer });
    };
    const sample = ({ color, dash, main }) =>
      el(
        "svg",
        { width: 26, height: 10, viewBox: "0 0 26 10", "aria-hidden": "true" },
        el("line", {
          x1: 1,
          x2: 25,
          y1: 5,
          y2: 5,
          stroke: color,
          "stroke-width": main ? 3 : 2,
          "stroke-dasharray": dash,
        }),
      );
    legend.replaceChildren(
      ...[...lines]
        .reverse()
        .map((line) =>
          el(
            "span",
            {},
            sample(line),
            line.main
              ? title(setting) + (line.std ? ` (band: ± one standard deviation of ${now.at.draws} draws)` : "")
              : line.words,
          ),
        ),
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
    const during = at.epochs.length ? `, after epoch ${setting.epoch}` : "";
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
    const accuracy = at.accuracy[at.epochs.length ? at.epochs.indexOf(setting.epoch) : 0];
    const made = at.computed ? (live ? "Computed now" : `Computed on ${day}`) : `Recorded on ${day}`;
    source.textContent = [
      made,
      at.device,
      accuracy === undefined ? null : `test accuracy ${percent(accuracy / 100)}`,
      at.about,
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
        values.map((value) => [value, part === "attack" && value === "none" ? "none: clean images" : named(value)]),
      );
      menus[part].node.hidden = part === "attack" && values.length < 2;
      left = left.filter((each) => each[part] === setting[part]);
    }
    const readings = distinct(left.flatMap((each) => Object.keys(each.readings)));
    reading.show(
      setting.reading,
      [
        ["conv", "convolution"],
        ["relu", "ReLU"],
      ].filter(([value]) => readings.includes(value)),
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
      const same = computed.findIndex(
        (each) =>
          JSON.stringify([each.model, each.dataset, each.weights, each.n, each.readings]) ===
          JSON.stringify([
            message.series.model,
            message.series.dataset,
            message.series.weights,
            message.series.n,
            message.series.readings,
          ]),
      );
      computed.splice(same < 0 ? computed.length : same, same < 0 ? 0 : 1, opened(message.series));
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
  const view = follow(model, draw);
  const watch = new ResizeObserver(() => drawChart());
  watch.observe(host);
  try {
    model.send({ kind: "hello" }); // a kernel answers; a page without one does not
  } catch {}
  return () => {
    watch.disconnect();
    model.off("msg:custom", hear);
    view.stop();
  };
}

export default { render };
