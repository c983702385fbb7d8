/* The k-NN graph explorer: the graph of every layer, with points that can be followed from layer to layer. Modularities
   come from Python; what depends on the chosen image is computed here. */

import {
  calm,
  choice,
  dataTable,
  el,
  fixed,
  follow,
  frame,
  has,
  mark,
  onTheme,
  percent,
  slider,
  statement,
  unique,
  unpack,
} from "./kit.js";

const OWN = [0, 114, 178]; // all neighbours of its own class
const MIXED = [190, 190, 190];
const FOREIGN = [213, 94, 0]; // none
const NONE = 65535; // in place of a neighbour: no edge
const STRIP = [5, 8]; // neighbours in the strip of pictures: at least, so that those that do not count are seen, too; at most
const MOVE = 500; // milliseconds from layer to layer

const LONG = 14; // letters of a layer's name in the strip: its end tells it from others

/** What an image of this class is: "a ship", "an animal", "of group A". */
const kindOf = (name) => (/^group /.test(name) ? "of " : /^[aeiou]/i.test(name) ? "an " : "a ") + name;

/** How many of an image's neighbours are of its class, as a sentence goes on. */
export function countWords(same, all) {
  if (!all) return "it has no neighbour in this layer";
  if (all === 1) return `its one neighbour in this layer is ${same ? "" : "not "}of its class`;
  return `${same} of its ${all} neighbours in this layer ${same === 1 ? "is" : "are"} of its class`;
}

/** Tables of one version of the images, with functions that read them. */
export function open(version, { n, labels, layers, classes, k }) {
  const neighbours = unpack(version.neighbours, "u2", 1);
  const at = unpack(version.at, "u2", 1 / 65535);
  const terms = unpack(version.terms);
  const near = (layer, i, upTo) => {
    const start = (layer * n + i) * k;
    return neighbours.slice(start, start + upTo).filter((j) => j !== NONE);
  };
  return {
    ...version,
    near,
    place: (layer, i) => [at[2 * (layer * n + i)], at[2 * (layer * n + i) + 1]],
    term: (layer, k_, c) => terms[(layer * k + k_ - 1) * classes.length + c],
    /** Share of an image's neighbours with its own label, or null if it has none. */
    agreement(layer, i, upTo) {
      const found = near(layer, i, upTo);
      return found.length ? found.filter((j) => labels[j] === labels[i]).length / found.length : null;
    },
    largest: terms.reduce((most, term) => Math.max(most, term), 0.01),
  };
}

/** The colour behind an element. */
function paper(element) {
  for (let e = element; e; e = e.parentElement) {
    const { backgroundColor } = getComputedStyle(e);
    if (!/^(transparent|rgba\(.*, 0\))$/.test(backgroundColor)) return backgroundColor;
  }
  return "#fff";
}

/** The colour of an agreement: orange among others, grey, blue among its own. */
export function shade(share) {
  if (share === null) return "rgb(120,120,120)";
  const [from, to, t] = share < 0.5 ? [FOREIGN, MIXED, 2 * share] : [MIXED, OWN, 2 * share - 1];
  return `rgb(${from.map((value, i) => Math.round(value + t * (to[i] - value))).join()})`;
}

function render({ model, el: host }) {
  const data = model.get("data");
  const { n, labels, classes, layers, colors } = data;
  const hue = (group) => colors[group % colors.length];
  const own = (i) => data.names?.[i]; // a picture of the reader's: it has no class that is known
  const classOf = (i) => own(i) ?? classes[labels[i]];
  const versions = Object.fromEntries(Object.entries(data.versions).map(([name, each]) => [name, open(each, data)]));
  // A rule each, because a picture in the style of every thumbnail would be read again with each of them.
  const id = unique("sheet");
  const sheets = el(
    "style",
    {},
    Object.keys(versions)
      .map((name) => `.${id}-${name}{background-image:url(${versions[name].sheet})}`)
      .join(""),
  );
  let now; // the setting, and the version it shows
  let points = []; // where each node is drawn, [x, y] in the unit square
  let moving = 0;
  const change = (more) => view.set(more);

  const controls = {
    layer: slider(
      "layer",
      "Layer",
      (layer) => change({ layer }),
      (layer) => layers[layer],
    ),
    k: slider("k", "k of this graph", (k) => change({ k })),
    image: slider("image", "Image", (image) => change({ image })),
  };
  const colour = choice("colour", "Colour by", (value) => change({ colour: value }));
  const kind = choice("images", "Images", (value) => change({ images: value }));
  const canvas = el("canvas", { role: "img", class: "ml-cloud" });
  const tip = el("div", { class: "ml-tip", hidden: true });
  const scale = el("p", { class: "ml-note" });
  const say = statement();
  const sayImage = statement();
  const rows = classes.map((name, c) => {
    const bar = el("span", { class: "ml-bar", style: `background:${hue(c)}` });
    const value = el("span", { class: "ml-term" });
    const row = el(
      "button",
      {
        type: "button",
        class: "ml-class",
        "aria-pressed": "false",
        onclick: () => change({ only: now.only === c ? -1 : c }),
      },
      el("svg", { viewBox: "-8 -8 16 16", "aria-hidden": "true" }, el("path", { d: mark(c, 6), fill: hue(c) })),
      el("span", { class: "ml-label" }, name),
      el("span", { class: "ml-track" }, bar),
      value,
    );
    return { row, bar, value };
  });
  const strip = el("div");
  const stripTitle = el("p", { class: "ml-title" });
  const table = dataTable();
  host.replaceChildren(
    frame(
      "graph",
      "Graph of the layers",
      sheets,
      el(
        "div",
        { class: "ml-panes ml-two" },
        el(
          "div",
          {},
          el("div", { class: "ml-stage" }, canvas, tip),
          scale,
          ...Object.values(controls).map(({ node }) => node),
          colour.node,
          kind.node,
          say.node,
          sayImage.node,
        ),
        el(
          "div",
          {},
          stripTitle,
          strip,
          el("p", { class: "ml-title" }, "Each class’s term of Q"),
          el(
            "div",
            { class: "ml-classes" },
            rows.map(({ row }) => row),
          ),
          el("p", { class: "ml-note" }, "Choose a class to see it alone, again to see all."),
        ),
      ),
      table.node,
    ),
  );
  const predictions = Object.values(versions).some(({ predicted }) => predicted.length);
  const colours = [["class", "class"], ...(predictions ? [["predicted", "predicted class"]] : []), ["agreement", "agreement"]];

  const short = layers.map((name, i) => `${i + 1} ${name.length > LONG ? `…${name.slice(1 - LONG)}` : name}`);
  strip.style.setProperty("--ml-letters", Math.max(...short.map(({ length }) => length)));

  const sheetRows = Math.ceil(n / data.columns);
  const thumb = (i, more = "") => {
    const across = (i % data.columns) / Math.max(1, data.columns - 1);
    const down = Math.floor(i / data.columns) / Math.max(1, sheetRows - 1);
    return el("span", {
      class: `ml-thumb ${id}-${now.images} ${more}`,
      style:
        `background-position:${100 * across}% ${100 * down}%;` +
        `background-size:${100 * data.columns}% ${100 * sheetRows}%`,
    });
  };

  function paint() {
    const { version, layer, k, image, only } = now;
    const width = canvas.clientWidth;
    if (!width) return; // not on the page yet
    const height = Math.round(width * 0.86);
    const dense = window.devicePixelRatio || 1;
    if (canvas.width !== Math.round(width * dense) || canvas.height !== Math.round(height * dense)) {
      canvas.width = width * dense;
      canvas.height = height * dense;
    }
    const context = canvas.getContext("2d");
    context.setTransform(dense, 0, 0, dense, 0, 0);
    context.clearRect(0, 0, width, height);
    const xy = points.map(([x, y]) => [10 + x * (width - 20), 10 + (1 - y) * (height - 20)]);
    const ink = getComputedStyle(canvas).color;
    const shown = (i) => only < 0 || labels[i] === only;
    context.strokeStyle = ink;
    context.lineWidth = 0.7;
    context.globalAlpha = Math.max(0.05, 0.28 - 0.02 * k);
    context.beginPath();
    for (let i = 0; i < n; i++) {
      if (!shown(i)) continue;
      for (const j of version.near(layer, i, k)) {
        context.moveTo(...xy[i]);
        context.lineTo(...xy[j]);
      }
    }
    context.stroke();
    const r = width < 400 ? 3.6 : 4.2;
    const shapes = classes.map((_, c) => new Path2D(mark(c, r)));
    const group = { class: labels, predicted: version.predicted }[now.colour];
    const dot = (i, alpha, size = 1) => {
      context.setTransform(dense * size, 0, 0, dense * size, xy[i][0] * dense, xy[i][1] * dense);
      context.globalAlpha = alpha;
      context.fillStyle = group ? hue(group[i]) : shade(version.agreement(layer, i, k));
      context.fill(shapes[(group ?? labels)[i]]);
    };
    for (let i = 0; i < n; i++) dot(i, shown(i) ? 1 : 0.12);
    context.setTransform(dense, 0, 0, dense, 0, 0);
    context.globalAlpha = 1;
    const lines = (width, style, dashed) => {
      context.lineWidth = width;
      context.strokeStyle = style;
      for (const j of version.near(layer, image, k)) {
        context.setLineDash(dashed && labels[j] !== labels[image] ? [4, 3] : []);
        context.beginPath();
        context.moveTo(...xy[image]);
        context.lineTo(...xy[j]);
        context.stroke();
      }
      context.setLineDash([]);
    };
    lines(6, paper(canvas)); // a rim keeps them apart from the others
    lines(2.6, ink, true);
    for (const j of version.near(layer, image, k)) dot(j, 1, 1.5);
    dot(image, 1, 1.9);
    context.setTransform(dense, 0, 0, dense, 0, 0);
    context.beginPath();
    context.arc(...xy[image], r * 1.9 + 4, 0, 7);
    context.lineWidth = 2.2;
    context.stroke();
  }

  function moveTo(places) {
    cancelAnimationFrame(moving);
    const from = points;
    if (!from.length || calm() || document.hidden) {
      points = places;
      return paint();
    }
    const begun = performance.now();
    const step = (time) => {
      const t = Math.min(1, Math.max(0, (time - begun) / MOVE));
      const eased = t * t * (3 - 2 * t);
      points = places.map(([x, y], i) => [
        from[i][0] + eased * (x - from[i][0]),
        from[i][1] + eased * (y - from[i][1]),
      ]);
      paint();
      if (t < 1) moving = requestAnimationFrame(step);
    };
    step(begun);
  }

  function nodeAt(event) {
    const box = canvas.getBoundingClientRect();
    const place = ([x, y]) => [10 + x * (box.width - 20), 10 + (1 - y) * (box.height - 20)];
    let best = -1;
    let nearest = event.pointerType === "touch" ? 24 : 12;
    points.forEach((point, i) => {
      if (now.only >= 0 && labels[i] !== now.only) return;
      const [x, y] = place(point);
      const gap = Math.hypot(x - event.clientX + box.left, y - event.clientY + box.top);
      if (gap < nearest) [best, nearest] = [i, gap];
    });
    return best;
  }
  canvas.addEventListener("click", (event) => {
    const image = nodeAt(event);
    if (image >= 0) change({ image });
  });
  canvas.addEventListener("pointermove", (event) => {
    const image = event.pointerType === "mouse" ? nodeAt(event) : -1;
    tip.hidden = image < 0;
    if (image < 0) return;
    const { predicted } = now.version;
    const guess = predicted.length ? `, predicted: ${classes[predicted[image]]}` : "";
    tip.replaceChildren(thumb(image), `${own(image) ?? `${image}: ${classes[labels[image]]}`}${guess}`);
    tip.style.left = `${Math.min(event.offsetX + 14, canvas.clientWidth - 120)}px`;
    tip.style.top = `${event.offsetY + 14}px`;
  });
  canvas.addEventListener("pointerleave", () => (tip.hidden = true));

  function drawStrip() {
    const { version, layer, k, image } = now;
    const many = Math.min(data.k, STRIP[1], Math.max(STRIP[0], k));
    const step = Math.max(1, Math.ceil(layers.length / 12));
    const chosen = layers
      .map((_, i) => i)
      .filter((i) => i === layer || i === layers.length - 1 || (i % step === 0 && Math.abs(i - layer) >= step / 2));
    const linked = k === 1 ? "the one that makes an edge" : `the ${k} that make an edge`;
    const shown = k > many ? `the ${many} nearest of ${linked}` : linked;
    stripTitle.textContent =
      `${own(image) ?? `Image ${image}, ${kindOf(classes[labels[image]])}`}, and its nearest in each layer: ${shown}` +
      (k < many ? ", and faintly the next" : "");
    strip.replaceChildren(
      ...chosen.map((each) => {
        const near = version.near(each, image, many);
        return el(
          "div",
          {
            class: each === layer ? "ml-row ml-now" : "ml-row",
            role: "img",
            "aria-label": `${layers[each]}: ${near.slice(0, k).map(classOf).join(", ")}`,
          },
          el("span", { class: "ml-label", title: layers[each] }, short[each]),
          thumb(image, "ml-self"),
          near.map((j, place) => thumb(j, (labels[j] === labels[image] ? "ml-same" : "") + (place < k ? "" : " ml-idle"))),
        );
      }),
    );
  }

  function words() {
    const { version, layer, k, image, images } = now;
    const which = Object.keys(versions).length > 1 ? `${images} images, ` : "";
    say.show(
      `Layer ${layer + 1} of ${layers.length} (${layers[layer]}), ${which}the graph with k = ${k}: ` +
        `Q = ${fixed(version.q[layer][k - 1])}. ` +
        `${percent(version.same[layer][k - 1], 0)} of the edges join images of one class.` +
        (version.q_predicted.length ? ` Under the predicted classes Q = ${fixed(version.q_predicted[layer][k - 1])}.` : ""),
    );
    const near = version.near(layer, image, k);
    const same = near.filter((j) => labels[j] === labels[image]).length;
    const guess = version.predicted.length ? `, predicted: ${classes[version.predicted[image]]}` : "";
    sayImage.show(
      own(image)
        ? `${own(image)}${guess}; its neighbours in this layer: ${near.map(classOf).join(", ") || "none"}.`
        : `Image ${image} is ${kindOf(classes[labels[image]])}${guess}; ` +
            `${countWords(same, near.length)}.`,
    );
    scale.replaceChildren(
      ...(now.colour !== "agreement"
        ? ["Solid lines lead from the chosen image to neighbours of its class, dashed ones to others."]
        : [
            el("span", {
              class: "ml-ramp",
              style: `background:linear-gradient(90deg,${shade(0)},${shade(0.5)},${shade(1)})`,
            }),
            " neighbours of its own class: none (orange) to all (blue)",
          ]),
    );
    canvas.setAttribute("aria-label", say.node.textContent);
  }

  function draw() {
    const setting = model.get("setting");
    const whole = (value, high) => Math.min(Math.max(Math.round(value) || 0, 0), high);
    const images = has(versions, setting.images) ? setting.images : Object.keys(versions)[0];
    const before = now;
    now = {
      images,
      version: versions[images],
      layer: whole(setting.layer, layers.length - 1),
      k: Math.max(1, whole(setting.k, data.k)),
      image: whole(setting.image, n - 1),
      only: setting.only < 0 ? -1 : whole(setting.only, classes.length - 1),
      colour: colours.some(([value]) => value === setting.colour) ? setting.colour : "class",
    };
    controls.layer.show(
      now.layer,
      layers.map((_, i) => i),
    );
    controls.k.show(
      now.k,
      Array.from({ length: data.k }, (_, i) => i + 1),
    );
    controls.image.show(
      now.image,
      labels.map((_, i) => i),
    );
    colour.show(now.colour, colours);
    kind.show(
      now.images,
      Object.keys(versions).map((name) => [name, name]),
    );
    kind.node.hidden = Object.keys(versions).length < 2;
    rows.forEach(({ row, bar, value }, c) => {
      const term = now.version.term(now.layer, now.k, c);
      bar.style.width = `${Math.max(0, (100 * term) / now.version.largest)}%`;
      value.textContent = fixed(term);
      row.setAttribute("aria-pressed", String(now.only === c));
    });
    drawStrip();
    words();
    table.show(["Layer", "Q", "edges inside", ...classes], () =>
      layers.map((name, i) => [
        name,
        fixed(now.version.q[i][now.k - 1], 4),
        percent(now.version.same[i][now.k - 1]),
        ...classes.map((_, c) => fixed(now.version.term(i, now.k, c), 4)),
      ]),
    );
    if (before?.layer === now.layer && before.version === now.version) paint();
    else moveTo(labels.map((_, i) => now.version.place(now.layer, i)));
  }

  const view = follow(model, draw, canvas, paint);
  const forget = onTheme(paint);
  return () => {
    cancelAnimationFrame(moving);
    forget();
    view.stop();
  };
}

export default { render };
