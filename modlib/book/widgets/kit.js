/* What the widgets share: elements, controls that have names and true values, words that are announced, tables behind
   the pictures. A widget shows `model.get("setting")` and answers a move with a new setting. */

// Okabe and Ito's colours, as in the figures of the book; colour and shape together tell more groups than six.
export const COLORS = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00"];
const SHAPES = ["circle", "square", "diamond", "triangle", "wedge", "hexagon"];
const KEYED = new Set(["input", "select", "button", "summary"]);
const DRAWN = new Set(["svg", "g", "path", "line", "rect", "circle", "polyline", "polygon", "text", "tspan", "title"]);

/** An HTML or SVG element. Attributes that are null or false are left out; those named on... are listeners. */
export function el(tag, attributes = {}, ...children) {
  const made = DRAWN.has(tag)
    ? document.createElementNS("http://www.w3.org/2000/svg", tag)
    : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false)
      made.setAttribute(name, value === true ? "" : value);
  }
  if (KEYED.has(tag)) made.dataset.lmSuppressShortcuts = "true"; // JupyterLab would take their arrow keys away
  made.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return made;
}

/** A number with a fixed number of decimals, a true minus sign, and no minus before zero. One that is none is said to be. */
export function fixed(number, digits = 3) {
  if (!Number.isFinite(number)) return "not defined";
  const text = number.toFixed(digits);
  return /^-0\.?0*$/.test(text) ? text.slice(1) : text.replace("-", "−");
}

/** Whether an object has a value of its own by this name: an address may ask for what every object has. */
export const has = (object, name) => Object.hasOwn(object, name);

export const percent = (share, digits = 1) =>
  Number.isFinite(share) ? `${fixed(100 * share, digits)}\u00a0%` : fixed(NaN);

const RECIPES = {
  paper: "SGD, the rate falling from 0.01 in steps, as in the paper",
  fast: "SGD, the rate rising to 0.2 and falling again",
  short: "SGD, the rate rising to 0.1 and falling again",
  gentle: "SGD, the rate rising to 0.01 and falling again",
  adamw: "AdamW, the rate rising to 0.001 and falling again",
  unsmoothed: "as “short”, without smoothed labels",
  decayed: "as “unsmoothed”, with the paper’s weight decay",
};

/** What is told of a training, with its recipe in words. */
export const recipeWords = (about) =>
  about.replace(/(\w+) recipe/, (all, name) => (has(RECIPES, name) ? `recipe “${name}” (${RECIPES[name]})` : all));

/** Numbers that Python packed, as multiples of a step in base64; kind is "i2", "u2" or "u1": sign and bytes. Numbers that
    were computed here are as they are. */
export function unpack(text, kind = "i2", step = 1e-4) {
  if (typeof text !== "string") return text;
  const view = new DataView(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
  const read = {
    i2: (i) => view.getInt16(2 * i, true),
    u2: (i) => view.getUint16(2 * i, true),
    u1: (i) => view.getUint8(i),
  }[kind];
  return Array.from({ length: view.byteLength / Number(kind[1]) }, (_, i) => read(i) * step);
}

/** The SVG path of a group's mark around (0, 0), about as large for every shape. */
export function mark(group, r) {
  const polygon = (...points) =>
    "M" + points.map(([x, y]) => `${(x * r).toFixed(2)},${(y * r).toFixed(2)}`).join("L") + "Z";
  switch (SHAPES[(group + Math.floor(group / 6)) % 6]) {
    case "circle":
      return `M${-r},0a${r},${r} 0 1,0 ${2 * r},0a${r},${r} 0 1,0 ${-2 * r},0Z`;
    case "square":
      return polygon([-0.9, -0.9], [0.9, -0.9], [0.9, 0.9], [-0.9, 0.9]);
    case "diamond":
      return polygon([0, -1.22], [1.22, 0], [0, 1.22], [-1.22, 0]);
    case "triangle":
      return polygon([0, -1.25], [1.2, 0.85], [-1.2, 0.85]);
    case "wedge":
      return polygon([0, 1.25], [1.2, -0.85], [-1.2, -0.85]);
    default:
      return polygon([-1.1, 0], [-0.55, -0.98], [0.55, -0.98], [1.1, 0], [0.55, 0.98], [-0.55, 0.98]);
  }
}

export const color = (group) => COLORS[group % 6];

/** The widget's outermost element. */
export const frame = (name, words, ...children) =>
  el("div", { class: `ml ml-${name}`, role: "group", "aria-label": words }, ...children);

let made = 0;
const here = Math.random().toString(36).slice(2, 8); // each widget of a page has a copy of this module

/** A name that no other element of the page has. */
export const unique = (name) => `ml-${name}-${here}-${made++}`;
const label = (id, words) => el("label", { for: id, class: "ml-name" }, words);

/** A slider over listed values, which shows the value and not its place in the list. */
export function slider(name, words, move, say = String) {
  const id = unique(name);
  let values = [];
  const output = el("output", { for: id });
  const tell = () => {
    const value = values[input.value];
    output.textContent = say(value);
    input.setAttribute("aria-valuetext", say(value));
    return value;
  };
  const input = el("input", { id, name, type: "range", min: 0, step: 1, oninput: () => move(tell()) });
  const node = el("div", { class: "ml-control" }, label(id, words), input, output);
  return {
    node,
    show(value, list) {
      values = list;
      input.max = list.length - 1;
      input.value = list.indexOf(value);
      input.disabled = list.length < 2;
      tell();
    },
  };
}

/** A menu. Options are [value, words] pairs; values are strings. */
export function menu(name, words, move) {
  const id = unique(name);
  const input = el("select", { id, name, onchange: () => move(input.value) });
  const node = el("div", { class: "ml-control" }, label(id, words), input);
  return {
    node,
    show(value, options) {
      const now = JSON.stringify(options);
      if (input.dataset.options !== now) {
        input.replaceChildren(...options.map(([value, words]) => el("option", { value }, words)));
        input.dataset.options = now;
      }
      input.value = value;
      input.disabled = options.length < 2;
    },
  };
}

/** A few alternatives side by side. Options are [value, words] pairs; values are strings. */
export function choice(name, words, move) {
  const group = unique(name);
  const row = el("div", { class: "ml-choice" });
  const node = el(
    "div",
    { class: "ml-control", role: "radiogroup", "aria-label": words },
    el("span", { class: "ml-name", "aria-hidden": "true" }, words),
    row,
  );
  return {
    node,
    show(value, options) {
      const now = JSON.stringify(options);
      if (row.dataset.options !== now) {
        row.replaceChildren(
          ...options.map(([value, words]) =>
            el(
              "label",
              {},
              el("input", { type: "radio", name: group, value, onchange: () => move(value) }),
              el("span", {}, words),
            ),
          ),
        );
        row.dataset.options = now;
      }
      row.querySelectorAll("input").forEach((input) => (input.checked = input.value === value));
    },
  };
}

export const button = (words, click) => el("button", { type: "button", class: "ml-button", onclick: click }, words);

/** The statement of a picture in words, announced when it changes. */
export function statement() {
  const node = el("p", { class: "ml-say", role: "status", "aria-live": "polite" });
  return { node, show: (words) => node.textContent !== words && (node.textContent = words) };
}

/** The numbers behind a picture, folded away. The first column names its row. */
export function dataTable() {
  const words = "The numbers behind the picture";
  const table = el("table");
  const node = el(
    "details",
    { class: "ml-data" },
    el("summary", {}, words),
    el("div", { class: "ml-scroll", tabindex: "0", role: "region", "aria-label": words }, table),
  );
  let fill = () => {};
  node.addEventListener("toggle", () => node.open && fill());
  return {
    node,
    show(head, rows) {
      fill = () =>
        table.replaceChildren(
          el(
            "thead",
            {},
            el(
              "tr",
              {},
              head.map((cell) => el("th", { scope: "col" }, cell)),
            ),
          ),
          el(
            "tbody",
            {},
            rows().map(([first, ...rest]) =>
              el(
                "tr",
                {},
                el("th", { scope: "row" }, first),
                rest.map((cell) => el("td", {}, cell)),
              ),
            ),
          ),
        );
      if (node.open) fill();
    },
  };
}

export const PAPER = { color: "#808080", dash: "6 4" }; // the paper's curves, everywhere

/** Axes over layers 1 to depth and over Q from below `least` to 1, or what `upright` names: their drawing in `parts`, and what
    is drawn on them. */
export function axes(chart, host, depth, least, top = 12, upright = "modularity Q") {
  const width = Math.max(host.clientWidth, 280);
  const height = Math.round(Math.min(340, Math.max(230, width * 0.48)));
  const low = least < -0.005 ? Math.floor(10 * least) / 10 : 0;
  const x = (layer) => 46 + ((layer - 1) / Math.max(1, depth - 1)) * (width - 62);
  const y = (q) => top + ((1 - q) / (1 - low)) * (height - 44 - top);
  const path = (points) => "M" + points.map(([layer, q]) => `${x(layer).toFixed(1)},${y(q).toFixed(1)}`).join("L");
  const curve = (q) => q.map((value, i) => [i + 1, value]);
  const small = { "font-size": 12, class: "ml-small" };
  const middle = { "font-size": 13, "text-anchor": "middle" };
  const parts = [0, 0.2, 0.4, 0.6, 0.8, 1].flatMap((q) => [
    el("line", { x1: 40, x2: width - 10, y1: y(q), y2: y(q), class: q ? "ml-grid" : "ml-axis" }),
    el("text", { ...small, x: 34, y: y(q) + 4, "text-anchor": "end" }, q),
  ]);
  const step = [1, 2, 5, 10].find((each) => (depth / each) * 24 < width - 62);
  for (let layer = step; layer <= depth; layer += step)
    parts.push(el("text", { ...small, x: x(layer), y: height - 26, "text-anchor": "middle" }, layer));
  const turned = `translate(11,${(height - 44) / 2}) rotate(-90)`;
  parts.push(
    el("text", { ...middle, x: 46 + (width - 62) / 2, y: height - 6 }, "layer"),
    el("text", { ...middle, x: 0, y: 0, transform: turned }, upright),
  );
  return {
    x,
    y,
    width,
    /** A line through Q of layers 1, 2, ..., or through [layer, Q] points. */
    line: (points, color, { dash, thick = 2, alpha } = {}) =>
      parts.push(
        el("path", {
          d: path(Array.isArray(points[0]) ? points : curve(points)),
          fill: "none",
          stroke: color,
          "stroke-width": thick,
          "stroke-dasharray": dash,
          "stroke-opacity": alpha,
          "stroke-linejoin": "round",
        }),
      ),
    /** The area within one standard deviation. */
    band(q, std, color) {
      const edge = (sign) => curve(q.map((value, i) => value + sign * std[i]));
      const d = `${path(edge(1))}L${path(edge(-1).reverse()).slice(1)}Z`;
      parts.push(el("path", { d, fill: color, "fill-opacity": 0.2 }));
    },
    /** An upright line at a layer. */
    here: (layer) => parts.push(el("line", { x1: x(layer), x2: x(layer), y1: top, y2: y(low), class: "ml-here" })),
    add: (...more) => parts.push(...more),
    /** The layer under a pointer. */
    layerAt(event) {
      const box = chart.getBoundingClientRect();
      const place = (((event.clientX - box.left) / box.width) * width - 46) / (width - 62);
      return Math.min(Math.max(Math.round(1 + place * (depth - 1)), 1), depth);
    },
    show(words) {
      chart.setAttribute("viewBox", `0 0 ${width} ${height}`);
      chart.setAttribute("aria-label", words);
      chart.replaceChildren(...parts);
    },
  };
}

/** An entry of a legend: a small drawing around (0, 0), and what it stands for. */
export const sample = (words, ...drawn) =>
  el("span", {}, el("svg", { viewBox: "-13 -7 26 14", "aria-hidden": "true" }, drawn), words);

export const stroke = (color, { dash, thick = 2 } = {}) =>
  el("line", { x1: -12, x2: 12, y1: 0, y2: 0, stroke: color, "stroke-width": thick, "stroke-dasharray": dash });

/** Keep `draw` in step with the widget's setting, and `redraw` with the width of `box`, if there is one; gives `set`,
    which changes some of the setting, and `stop`. */
export function follow(model, draw, box, redraw) {
  model.on("change:setting", draw);
  draw();
  const watch = new ResizeObserver(() => redraw());
  if (box) watch.observe(box);
  return {
    set(change) {
      model.set("setting", { ...model.get("setting"), ...change });
      model.save_changes();
    },
    stop() {
      watch.disconnect();
      model.off("change:setting", draw);
    },
  };
}

/** Call when the colours around the widget may have changed, for pictures that do not follow by themselves. */
export function onTheme(act) {
  const watch = new MutationObserver(act);
  const attributeFilter = ["data-theme", "data-jp-theme-light", "class", "theme", "style"];
  for (const root of [document.documentElement, document.body])
    watch.observe(root, { attributes: true, attributeFilter });
  const system = matchMedia("(prefers-color-scheme: dark)");
  system.addEventListener("change", act);
  return () => (watch.disconnect(), system.removeEventListener("change", act));
}

export const calm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;
