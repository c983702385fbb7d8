/* The live laboratory on a page: controls, the curve as it is computed, the graph of each layer, and the reader's own picture.
   A worker computes (worker.js); nothing is fetched before Start but the list of what there is to fetch. */

import graph from "./graph.js";
import { CORRUPTIONS } from "./images.js";
import {
  axes,
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
  sample,
  slider,
  statement,
  stroke,
  unique,
} from "./kit.js";
import { own } from "./picture.js";
import { OUT, SAVED, attacks, demand, fit, grouping, letters, needed, poolOf, sizesIn } from "./settings.js";

const NETWORKS = { resnet20: "ResNet20", resnet56: "ResNet56", vgg11: "VGG11" };
const GREY = "#808080";
const EPS = [1, 2, 4, 8, 16, 32, 76];
const SHARES = [1, 2, 5, 10, 20, 30, 50, 75, 100];
const STEPS = [1, 2, 5, 10, 20, 40];
const LONG = 20; // seconds, and bytes, that are told beforehand
const MUCH = 400e6;

const named = (network) => NETWORKS[network] ?? network;
const megabytes = (bytes) => `${(bytes / 1e6).toFixed(1)} MB`;
const duration = (seconds) =>
  seconds < 90 ? `${Math.ceil(seconds / 10) * 10} seconds` : `${Math.round(seconds / 60)} minutes`;
const withOne = (list, value) => [...new Set([...list, value])].sort((a, b) => a - b);

/** A field for a whole number. */
function number(name, words, move) {
  const id = unique(name);
  const input = el("input", {
    id,
    name,
    type: "number",
    inputmode: "numeric",
    step: 1,
    onchange: () => move(input.valueAsNumber),
  });
  const node = el("div", { class: "ml-control" }, el("label", { for: id, class: "ml-name" }, words), input);
  return {
    node,
    show(value, low, high) {
      Object.assign(input, { min: low, max: high });
      input.value = value;
    },
  };
}

/** A model as widgets know them, which only remembers. */
function memory(values) {
  const listeners = new Set();
  return {
    get: (key) => values[key],
    set(key, value) {
      values[key] = value;
      if (key === "setting") [...listeners].forEach((each) => each());
    },
    on: (_, listener) => listeners.add(listener),
    off: (_, listener) => listeners.delete(listener),
    save_changes() {},
  };
}

/** Shows the laboratory in `box`: files lie below `base`; `saved` is the setting that an address is held against; `began` and
    `failed` are told when it takes the place of what was recorded, and when it cannot. */
export async function open(box, { base, saved: preset, began, failed }) {
  const answer = await fetch(new URL("manifest.json", base));
  if (!answer.ok) throw new Error(`the host answers ${answer.status}`);
  const manifest = await answer.json();
  if (!manifest.runtime) throw new Error("this build of the book has no runtime for networks");
  const sizes = sizesIn(manifest);
  const gpu = Boolean(manifest.runtime.gpu && navigator.gpu && "Suspending" in WebAssembly); // whether it is there, a worker asks
  const about = {
    networks: manifest.networks.map(({ name }) => name),
    classes: manifest.images.classes,
    pool: poolOf(manifest),
    gpu,
  };

  const saved = { ...SAVED, ...preset };
  const model = memory({ setting: window.bookAddress.read("live", saved) });
  const write = window.bookAddress.writer("live", saved);
  const shown = { box, setting: null, result: null, picture: null, ask: null }; // for who looks on: the tests
  (window.bookLive ||= []).push(shown);

  let worker = null;
  let ticket = 0;
  let now = fit(model.get("setting"), about); // {setting, told, possible}
  let curves = null; // what is drawn: {clean: [{q, predicted, same}], attacked, depth, ...}
  let whole = null; // the last that were computed to the end
  let kept = null;
  let stopGraph = () => {};
  let graphModel = null;
  let drawn = null; // what the picture of the graph shows, as the worker names it
  let sheets = [];
  let remark = ""; // a sentence that stays until the next change
  let speed = 1e10; // multiplications a second: a guess, until a curve has told
  /** What is to be expected where it is much. */
  const expected = () => {
    const { work, bytes } = demand(
      manifest.networks.find(({ name }) => name === now.setting.network),
      now.setting,
    );
    const seconds = work / speed;
    if (seconds < LONG && bytes < MUCH) return "";
    return `From the beginning, this setting takes about ${duration(seconds)} and ${Math.ceil(bytes / 5e7) * 50} MB of memory.`;
  };
  const few = () => grouping(now.setting.groups, about.classes).names.length < 2; // groups: nothing can be computed
  /** What could not be had is asked for once; where too few groups are left, again when there are enough. */
  const change = (more) => model.set("setting", { ...(few() ? model.get("setting") : now.setting), ...more });
  const to = (name) => (value) => change({ [name]: value });

  // Controls
  const controls = {
    network: menu("network", "Network", to("network")),
    weights: menu("weights", "Weights", to("weights")),
    share: slider("share", "Shuffled", to("share"), (share) => `${share} %`),
    n: number("n", "Images N", to("n")),
    k: number("k", "Neighbours k", to("k")),
    draw: slider("draw", "Draw", to("draw"), (draw) => (draw ? String(draw) : "first")),
    groups: menu("groups", "Groups", (kind) =>
      change({ groups: kind === "own" ? letters(now.setting.groups, about.classes) : kind }),
    ),
    corruption: menu("corruption", "Corruption", to("corruption")),
    strength: slider("strength", "Strength", to("strength")),
    attack: menu("attack", "Attack", to("attack")),
    eps: slider("eps", "eps", to("eps"), (eps) => `${eps}/255`),
    steps: slider("steps", "Steps", to("steps")),
    images: choice("images", "Count", to("images")),
    on: choice("on", "Compute on", to("on")),
  };
  const members = about.classes.map((name, c) =>
    menu(`group-${name}`, name, (group) => {
      const each = [...letters(now.setting.groups, about.classes)];
      each[c] = group;
      change({ groups: each.join("") });
    }),
  );
  const ownGroups = el(
    "fieldset",
    { class: "ml-groups" },
    el("legend", {}, "The group of each class"),
    members.map(({ node }) => node),
  );
  const startButton = button("Start", start);
  const startWords = el("p", { class: "ml-say" });
  const error = el("p", { class: "ml-error", role: "alert" });
  const notes = el("div", { class: "ml-note", role: "status" });
  const bar = el("progress", { max: 1, "aria-label": "Computing" });
  const cancel = button("Cancel", () => halt());
  const busy = el("p", { class: "ml-busy", hidden: true }, bar, el("span", { role: "status" }), cancel);
  const chart = el("svg", { role: "img" });
  const legend = el("p", { class: "ml-legend" });
  const say = statement();
  const sayMore = el("p", { class: "ml-note" });
  const keep = button("Keep this curve", () => {
    if (!curves?.whole) return;
    kept = { words: full(curves), q: main().map(({ q }) => q) };
    drawCurves();
  });
  const drop = button("Drop the kept curve", () => {
    kept = null;
    drawCurves();
  });
  const table = dataTable();
  const graphPlace = el("div", { class: "ml-graph-place" });
  const picture = own(
    (pixels) => post({ kind: "picture", pixels }),
    "The picture stays on this machine: nothing is sent.",
  );
  const opening = el("div", { class: "ml-start" }, startWords, startButton);
  const desk = el(
    "div",
    { hidden: true },
    el(
      "div",
      { class: "ml-controls" },
      Object.values(controls).map(({ node }) => node),
    ),
    ownGroups,
    notes,
    chart,
    legend,
    say.node,
    sayMore,
    el("div", { class: "ml-buttons" }, keep, drop),
    table.node,
    el("p", { class: "ml-title ml-graph-place" }, "The graph of each layer"),
    graphPlace,
    picture.node,
  );
  box.replaceChildren(frame("live", "Live laboratory", opening, busy, error, desk));

  // The worker
  function post(message) {
    if (!worker) return; // a picture that was read while everything was cancelled
    error.replaceChildren();
    busy.hidden = false;
    bar.removeAttribute("value");
    busy.children[1].textContent = "Computing";
    worker.postMessage({ ticket: ++ticket, setting: now.setting, drawn, ...message });
  }

  function start() {
    if (few()) return error.replaceChildren(now.told.join(" "));
    worker?.terminate();
    worker = new Worker(new URL("worker.js", base), { type: "module", name: "live laboratory" });
    worker.onmessage = hear;
    worker.onerror = (event) =>
      hear({ data: { ticket, kind: "error", words: event.message || "the worker did not load" } });
    opening.hidden = true;
    post({ kind: "start", manifest, base: String(base) });
  }

  /** Stops what is under way; before the first curve, everything. */
  function halt() {
    ticket += 1;
    busy.hidden = true;
    if (!whole) return close();
    worker.postMessage({ kind: "stop", ticket });
    back();
  }

  /** Shows again what was there before. */
  function back() {
    curves = whole;
    drawCurves();
  }

  function close() {
    worker?.terminate();
    worker = null;
    ticket += 1;
    picture.stop();
    busy.hidden = true;
    opening.hidden = false;
    desk.hidden = true;
    curves = whole = null;
    failed();
  }

  function hear({ data }) {
    if (data.ticket !== ticket) return;
    if (data.kind === "progress") {
      if (data.share === null) bar.removeAttribute("value");
      else bar.value = data.share;
      busy.children[1].textContent = data.words;
    } else if (data.kind === "layer") {
      if (desk.hidden) arrive();
      if (curves?.ticket !== ticket) curves = { ticket, clean: [], attacked: null, depth: data.depth };
      if (data.of === "attacked") curves.attacked ??= [];
      curves[data.of][data.layer] = data;
      bar.value = (data.layer + 1) / data.depth;
      busy.children[1].textContent = `Layer ${data.layer + 1} of ${data.depth}`;
      drawCurves();
    } else if (data.kind === "result") {
      if (desk.hidden) arrive();
      const { clean, attacked, counts, used, layers, setting, groups } = data;
      speed = data.speed ?? speed;
      curves = { ticket, whole: true, clean, attacked, counts, used, layers, depth: layers.length, setting, groups };
      whole = curves;
      shown.result = data;
      drawCurves();
      busy.children[1].textContent = "Placing the points";
    } else if (data.kind === "graph") showGraph(data);
    else if (data.kind === "picture") {
      shown.picture = data;
      picture.show(data, named(now.setting.network));
    } else if (data.kind === "pixels") shown.pixels = data.pixels;
    else if (data.kind === "done") busy.hidden = true;
    else if (data.kind === "error") trouble(data);
  }

  function arrive() {
    desk.hidden = false;
    began();
    drawCurves();
  }

  function trouble({ lost, short, words }) {
    busy.hidden = true;
    ticket += 1;
    if (now.setting.on === "gpu" && !lost) {
      remark = `The graphics processor did not work (${words}): the processor computes.`;
      return change({ on: "cpu" });
    }
    const first = !whole;
    if (!first) back();
    const why = short
      ? "There is too little memory for this setting. Choose fewer images or a smaller network."
      : `This did not work: ${words}.`;
    if (lost) {
      const again = button("Go on", () => (worker ? post({ kind: "start", manifest, base: String(base) }) : start()));
      error.replaceChildren(`The connection was lost (${words}). What has come is kept. `, again);
    } else error.replaceChildren(why);
    if (first && !lost) {
      worker?.terminate();
      worker = null;
      opening.hidden = false;
    }
    if (first) {
      picture.stop();
      desk.hidden = true;
      failed();
    }
  }

  // What is shown
  const main = () => curves.attacked ?? curves.clean;
  const title = ({ network, weights, share, corruption, strength, attack, eps, steps } = now.setting) =>
    [
      named(network),
      weights === "shuffled" ? `${share} % of the weights shuffled` : weights,
      corruption === "none" ? "" : `${CORRUPTIONS[corruption].words} of strength ${strength}`,
      attack === "none" ? "" : `${attack.toUpperCase()}, eps = ${eps}/255${attack === "pgd" ? `, ${steps} steps` : ""}`,
    ]
      .filter(Boolean)
      .join(", ");
  /** Everything that may tell a curve from another one. */
  const full = ({ setting, used }) =>
    [
      title(setting),
      `N = ${used}`,
      `k = ${setting.k}`,
      setting.draw ? `draw ${setting.draw}` : "first draw",
      { classes: "", kinds: "animals and vehicles" }[setting.groups] ?? `groups ${setting.groups}`,
      attacks(setting) && setting.images === "changed" ? "those that changed" : "",
      setting.on === "gpu" ? "on the graphics processor" : "",
    ]
      .filter(Boolean)
      .join(", ");

  function drawCurves() {
    if (!curves || desk.hidden) return;
    const lines = [];
    const q = main().map((each) => each.q);
    const values = (key) => main().map((each) => each[key] ?? NaN);
    if (kept) lines.push({ words: `kept: ${kept.words}`, q: kept.q, color: color(5), thick: 1.8 });
    if (curves.attacked)
      lines.push({
        words: "the same images before",
        q: curves.clean.map((each) => each.q),
        color: color(2),
        dash: "2 3",
      });
    lines.push({ words: "share of neighbours of the own group", q: values("same"), color: GREY, dash: "1 4" });
    if (curves.whole)
      lines.push({ words: "under predicted labels", q: values("predicted"), color: color(1), dash: "7 3" });
    const mine = kept && curves.whole ? `: ${full(curves)}` : "";
    lines.push({ words: `under true labels${mine}`, q, color: color(0), thick: 2.8, main: true });
    const real = (list) => list.map((value, i) => [i + 1, value]).filter(([, value]) => Number.isFinite(value));
    const all = lines.flatMap((line) => real(line.q).map(([, value]) => value));
    const plot = axes(
      chart,
      box,
      Math.max(2, curves.depth, kept?.q.length ?? 0),
      Math.min(0, ...all),
      12,
      "Q, or share",
    );
    const layer = graphModel && Math.min(graphModel.get("setting").layer + 1, curves.depth);
    if (layer) plot.here(layer);
    for (const line of lines) {
      const points = real(line.q);
      if (points.length > 1) plot.line(points, line.color, line);
      if (line.main || line.q === q)
        plot.add(
          ...points.map(([at, value]) =>
            el("circle", { cx: plot.x(at), cy: plot.y(value), r: at === layer ? 6 : 3.5, fill: line.color }),
          ),
        );
    }
    words();
    plot.show(say.node.textContent);
    chart.classList.toggle("ml-tap", Boolean(graphModel));
    chart.onpointerdown = (event) =>
      graphModel?.set("setting", { ...graphModel.get("setting"), layer: plot.layerAt(event) - 1 });
    legend.replaceChildren(...[...lines].reverse().map((line) => sample(line.words, stroke(line.color, line))));
    keep.disabled = !curves.whole;
    drop.hidden = !kept;
    const names = curves.layers ?? q.map((_, i) => String(i + 1));
    const cell = (value) => (Number.isFinite(value) ? fixed(value, 4) : "–");
    const before = curves.attacked ? ["Q before"] : [];
    table.show(
      ["Layer", "module", "Q", "Q, predicted labels", "own group", ...before, ...(kept ? ["Q kept"] : [])],
      () =>
        main().map((each, i) => [
          i + 1,
          names[i],
          cell(each.q),
          cell(each.predicted),
          each.same === null ? "–" : percent(each.same),
          ...before.map(() => cell(curves.clean[i]?.q)),
          ...(kept ? [cell(kept.q[i])] : []),
        ]),
    );
  }

  function words() {
    const { setting } = now;
    sayMore.textContent = "";
    if (!curves.whole) return say.show(`${title()}, N = ${setting.n}, k = ${setting.k}: being computed.`);
    const { counts, used } = curves;
    const q = main().map((each) => each.q);
    const defined = [...q.keys()].filter((i) => Number.isFinite(q[i]));
    const head = `${title(curves.setting)}, N = ${used}, k = ${curves.setting.k}: `;
    if (!defined.length)
      return say.show(
        `${head}Q is not defined: ${curves.groups.length < 2 ? "all images are of one group" : "there is no edge, or one group alone"}.`,
      );
    const [first, last] = [defined[0], defined.at(-1)];
    const peak = defined.reduce((best, i) => (q[i] > q[best] ? i : best), first);
    const end = main()[last];
    const without = q.length - defined.length;
    say.show(
      head +
        (without ? `in ${without} of ${q.length} layers there is no edge; ` : "") +
        `Q goes from ${fixed(q[first])} in layer ${first + 1} to ${fixed(q[last])} in layer ${last + 1}` +
        (peak === last ? ", its largest value" : `; it is largest in layer ${peak + 1}, ${fixed(q[peak])}`) +
        (Number.isFinite(end.predicted) ? `. Under predicted labels it ends at ${fixed(end.predicted)}` : "") +
        (end.same === null
          ? "."
          : `; ${percent(end.same)} of the neighbours in layer ${last + 1} are of the own group.`),
    );
    const share = (count) => percent(count / counts.n);
    const right = `The network is right about ${share(counts.right)} of the ${counts.n} images`;
    const after =
      counts.changed === null
        ? "."
        : `, after the attack about ${share(counts.rightAfter)}. ${counts.changed} were right before and wrong after` +
          (curves.setting.images === "changed"
            ? used === counts.changed
              ? "; only these are in the graphs."
              : `; too few for k = ${curves.setting.k}: all images are in the graphs.`
            : ".");
    const how =
      curves.setting.on === "gpu"
        ? " Computed on the graphics processor (WebGPU)."
        : " Computed by the processor (WebAssembly, one thread).";
    const hurt =
      curves.setting.corruption === "none"
        ? ""
        : ` Corruption: ${CORRUPTIONS[curves.setting.corruption].say(curves.setting.strength)}.`;
    sayMore.textContent = right + after + hurt + how;
  }

  function showGraph({ versions, labels, classes, layers, columns, n, own: mine, key }) {
    const before = graphModel?.get("setting");
    stopGraph();
    sheets.forEach((each) => URL.revokeObjectURL(each));
    sheets = Object.values(versions).map((each) => (each.sheet = URL.createObjectURL(each.sheet)));
    for (const each of Object.values(versions)) each.neighbours = Array.from(each.neighbours);
    const names = mine && { [mine[0]]: "Your picture", [mine[1]]: "Your picture after the attack" };
    const data = {
      n,
      k: versions.clean.reach,
      labels,
      classes,
      layers,
      columns,
      colors: manifest.images.colors,
      versions,
      names,
    };
    const first = { layer: layers.length - 1, image: 0, colour: "class", only: -1, images: "clean" };
    const setting = { ...first, ...before, k: Math.min(now.setting.k, data.k) };
    if (versions.attacked && !graphModel?.get("data").versions.attacked) setting.images = "attacked"; // as the curve
    if (mine) Object.assign(setting, { image: mine[0], images: "clean" });
    setting.layer = Math.min(setting.layer, layers.length - 1);
    drawn = key ?? null; // a picture of the reader's gives way to any other
    graphModel = memory({ data, setting });
    stopGraph = graph.render({ model: graphModel, el: graphPlace });
    const model = graphModel;
    let at = setting;
    model.on("change:setting", () => {
      const { layer, k } = model.get("setting");
      if (layer !== at.layer) drawCurves();
      if (k !== at.k && k !== Math.min(now.setting.k, data.k)) change({ k });
      at = model.get("setting");
    });
    drawCurves();
  }

  // The setting
  function showControls() {
    const { setting, told, possible, fewest } = now;
    const { network, weights, groups } = setting;
    controls.network.show(
      network,
      manifest.networks.map(({ name, weights: { trained } }) => [name, `${named(name)} (${megabytes(trained.bytes)})`]),
    );
    controls.weights.show(weights, [
      ["trained", "trained"],
      ["shuffled", "trained, a share shuffled"],
      ["untrained", "untrained"],
    ]);
    controls.share.show(setting.share, withOne(SHARES, setting.share));
    controls.n.show(setting.n, fewest, possible);
    controls.k.show(setting.k, 1, setting.n - 1);
    controls.draw.show(setting.draw, withOne([0, 1, 2, 3, 4, 5, 6, 7, 8, 9], setting.draw));
    const kind = groups === "classes" || groups === "kinds" ? groups : "own";
    controls.groups.show(kind, [
      ["classes", "ten classes"],
      ["kinds", "animals, vehicles"],
      ["own", "your own groups"],
    ]);
    const each = [...letters(groups, about.classes)];
    const offered = ["A", "B", "C", "D", "E", "F", "G", "H", "I", "J"].map((one) => [one, `group ${one}`]);
    members.forEach((one, c) => one.show(each[c], [...offered, [OUT, "takes no part"]]));
    ownGroups.hidden = kind !== "own";
    controls.corruption.show(
      setting.corruption,
      Object.entries(CORRUPTIONS).map(([name, { words: each }]) => [name, each]),
    );
    controls.strength.show(setting.strength, [1, 2, 3, 4, 5]);
    controls.attack.show(setting.attack, [
      ["none", "none"],
      ["fgsm", "FGSM"],
      ["pgd", "PGD"],
    ]);
    controls.eps.show(setting.eps, withOne(EPS, setting.eps));
    controls.steps.show(setting.steps, withOne(STEPS, setting.steps));
    controls.images.show(setting.images, [
      ["all", "all images"],
      ["changed", "those that changed"],
    ]);
    controls.on.show(setting.on, [
      ["cpu", "processor"],
      ["gpu", "graphics processor"],
    ]);
    controls.share.node.hidden = weights !== "shuffled";
    controls.strength.node.hidden = setting.corruption === "none";
    for (const name of ["eps", "images"]) controls[name].node.hidden = !attacks(setting);
    controls.steps.node.hidden = setting.attack !== "pgd";
    controls.on.node.hidden = !gpu;
    notes.replaceChildren(...[...told, remark, expected()].filter(Boolean).map((sentence) => el("p", {}, sentence)));
    remark = "";
    const list = needed(manifest, setting).map((name) => sizes[name]);
    const sum = list.reduce((all, one) => all + one, 0);
    const asked = Object.keys(saved).some((key) => setting[key] !== saved[key])
      ? ` Asked for: ${title()}, N = ${setting.n}, k = ${setting.k}.`
      : "";
    startWords.textContent =
      `Start fetches ${megabytes(sum)} from this book’s own folder, ${megabytes(list[0])} of them a runtime for networks, and computes ` +
      `here, in this browser. Nothing is sent.${asked} ${expected()}`;
  }

  let last = now.setting;
  function follows() {
    const asked = model.get("setting");
    now = fit(asked, about);
    write(now.setting);
    shown.setting = now.setting;
    showControls();
    if (graphModel) {
      const at = graphModel.get("setting");
      const k = Math.min(now.setting.k, graphModel.get("data").k);
      if (at.k !== k) graphModel.set("setting", { ...at, k });
    }
    if (worker && JSON.stringify(last) !== JSON.stringify(now.setting)) {
      if (last.on !== now.setting.on) start();
      else if (few()) {
        halt();
        curves = curves && {
          ...curves,
          clean: curves.clean.map(() => ({ q: NaN, predicted: NaN, same: null })),
          attacked: null,
          groups: [],
          setting: now.setting,
        };
        drawCurves();
      } else post({ kind: "set" });
    }
    last = now.setting;
  }

  shown.ask = (message) => post(message);
  follow(model, follows, box, drawCurves);
  addEventListener("pagehide", close); // leaving the page cancels
  return { close };
}
