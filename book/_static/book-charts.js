/* Draws each <div class="book-chart"> from the JSON inside it, and keeps it usable for everyone:
   redrawn in the page's theme and width, controls with names and true values that are kept in the
   address of the page, a sentence that says what the picture shows now, and its numbers as a table.
   window.bookCharts lists what was drawn. */
(function () {
  "use strict";

  const VEGA = new URL("vega.js", document.currentScript.src).href;
  const root = document.documentElement;
  const charts = (window.bookCharts = []);

  function loadVega() {
    return new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.src = VEGA;
      script.onload = resolve;
      script.onerror = () => reject(new Error("vega.js did not load"));
      document.head.append(script);
    });
  }

  function element(tag, attributes, parent) {
    const made = document.createElement(tag);
    Object.entries(attributes).forEach(([name, value]) => made.setAttribute(name, value));
    parent.append(made);
    return made;
  }

  function prepare(box) {
    const picture = element("div", { class: "book-chart-picture" }, box);
    const chart = { box, picture, spec: {}, bound: [], setting: {}, view: null, drawn: null };
    charts.push(chart);
    tapsPoint(picture);
    chart.spec = JSON.parse(box.querySelector("script").textContent);
    const { name, usermeta = {} } = chart.spec;
    if (usermeta.say) {
      chart.spec.params = [...(chart.spec.params || []), { name: "say", expr: usermeta.say }];
    }
    chart.most = usermeta.most || {};
    Object.entries(chart.most).forEach(([control, expr]) => chart.spec.params.push({ name: `most_${control}`, expr }));
    chart.bound = bound(chart.spec);
    const saved = Object.fromEntries(chart.bound.map(({ name, at, key }) => [name, at[key]]));
    chart.setting = name ? window.bookAddress.read(name, saved) : saved;
    chart.bound.forEach(({ name, bind, at, key }) => {
      if (possible(bind, chart.setting[name])) at[key] = chart.setting[name];
      else chart.setting[name] = at[key];
    });
    chart.write = name ? window.bookAddress.writer(name, saved) : () => {};
    if (name) window.bookAddress.aim(name, box);
    if (usermeta.table) chart.table = table(chart, usermeta.table);
  }

  // A tap does what a hover does, and stays: Vega looks for what lies under a pointer only while one moves.
  function tapsPoint(picture) {
    const move = (event) => {
      if (event.pointerType !== "touch") return;
      const { clientX, clientY } = event;
      ["pointermove", "pointerdown"].forEach((type) => {
        event.target.dispatchEvent(new PointerEvent(type, { clientX, clientY, pointerType: "mouse", bubbles: true }));
      });
    };
    picture.addEventListener("click", move, true);
  }

  // The controls of a chart, and where the value of each stands in the specification: a variable, or a field of a
  // selection, whose control Vega-Lite names by both.
  function bound(spec) {
    const found = (spec.params || []).flatMap((param) => {
      if (!param.bind) return [];
      if (!param.select) return "value" in param ? [{ name: param.name, bind: param.bind, at: param, key: "value" }] : [];
      return Object.entries(param.bind).map(([key, bind]) => ({ name: `${param.name}_${key}`, bind, at: param.value[0], key }));
    });
    return [...found.filter(({ bind }) => bind.options), ...found.filter(({ bind }) => !bind.options)]; // menus first
  }

  // An address may ask for what a control does not offer.
  function possible(bind, value) {
    if (bind.options) return bind.options.includes(value);
    if (bind.input !== "range") return true;
    return value >= bind.min && value <= bind.max && Number.isInteger((value - bind.min) / (bind.step || 1));
  }

  function damaged(chart, error) {
    chart.picture.textContent = "This chart could not be drawn: " + error.message;
    chart.failed = true;
    console.error(error);
  }

  const controls = (chart) => chart.picture.querySelectorAll("input[name], select[name]");

  async function draw(chart) {
    if (chart.view) {
      chart.finalize();
      chart.view = null;
    }
    const dark = root.dataset.theme === "dark";
    const drawn = await window.vegaEmbed(chart.picture, chart.spec, {
      mode: "vega-lite",
      actions: false,
      ast: true, // expressions are interpreted: the page lets nobody compile any
      theme: dark ? "dark" : undefined,
      tooltip: { theme: dark ? "dark" : "light" },
      config: {
        background: "transparent",
        axis: { labelFontSize: 12, titleFontSize: 13, ...(dark ? { gridColor: "#444" } : {}) },
        legend: { labelFontSize: 12, titleFontSize: 12 },
      },
    });
    chart.finalize = drawn.finalize;
    Object.entries(chart.setting).forEach(([name, value]) => drawn.view.signal(name, value));
    await drawn.view.runAsync();
    arrange(chart);
    controls(chart).forEach((control) => {
      if (control.type === "range") tellValue(drawn.view, control, chart.most[control.name] && `most_${control.name}`);
    });
    tellSentence(chart, drawn.view);
    Object.keys(chart.setting).forEach((name) =>
      drawn.view.addSignalListener(name, (_, value) => {
        chart.setting[name] = value;
        chart.write(chart.setting);
        chart.view.runAfter(() => chart.table?.fill());
      })
    );
    chart.view = drawn.view; // set last: a chart with a view is ready to use
    chart.table?.fill();
  }

  // Vega-Lite writes the controls of a selection first, and backwards.
  function arrange(chart) {
    const rows = chart.picture.querySelectorAll(".vega-bind");
    const place = (row) => chart.bound.findIndex(({ name }) => row.querySelector(`[name="${name}"]`));
    const sorted = [...rows].sort((a, b) => place(a) - place(b));
    rows[0]?.parentElement.append(...sorted);
    rows.forEach(name);
  }

  // Vega puts a control and its value into one label: name the control alone.
  function name(row) {
    row.querySelector("input, select").setAttribute("aria-label", row.querySelector(".vega-bind-name").textContent.trim());
  }

  // A slider tells its value, and ends where `most`, a signal, says.
  function tellValue(view, slider, most) {
    const output = document.createElement("output");
    slider.nextElementSibling.replaceWith(output);
    const tell = () => {
      const value = view.signal(slider.name);
      output.textContent = value;
      slider.setAttribute("aria-valuetext", value);
    };
    const bind = () => {
      slider.max = view.signal(most);
      if (view.signal(slider.name) > slider.max) view.signal(slider.name, +slider.max).runAsync();
      slider.value = view.signal(slider.name);
    };
    view.addSignalListener(slider.name, tell);
    if (most) {
      view.addSignalListener(most, () => view.runAfter(bind));
      bind();
    }
    tell();
  }

  function tellSentence(chart, view) {
    if (!(chart.spec.params || []).some((param) => param.name === "say")) return;
    const line =
      chart.box.querySelector(".book-chart-say") ||
      element("p", { class: "book-chart-say", role: "status", "aria-live": "polite" }, chart.box);
    chart.picture.after(line); // and before the table
    const tell = () => {
      line.textContent = view.signal("say");
    };
    view.addSignalListener("say", tell);
    tell();
  }

  // The numbers of the marks that `usermeta.table` names ({mark, columns: {field: title}}), folded away.
  function table(chart, { mark, columns }) {
    const words = "The numbers as a table";
    const folded = element("details", { class: "book-chart-data" }, chart.box);
    element("summary", {}, folded).textContent = words;
    const area = { class: "book-chart-scroll", tabindex: "0", role: "region", "aria-label": words };
    const rows = element("table", {}, element("div", area, folded));
    const row = (cells, scopes, parent) => {
      const made = element("tr", {}, parent);
      cells.forEach((cell, i) => {
        element(scopes[i] ? "th" : "td", scopes[i] ? { scope: scopes[i] } : {}, made).textContent = cell;
      });
    };
    const shown = (value) => (typeof value === "number" && !Number.isInteger(value) ? value.toFixed(3) : value);
    const fill = () => {
      if (!folded.open || !chart.view) return;
      rows.replaceChildren();
      const titles = Object.values(columns);
      row(titles, titles.map(() => "col"), element("thead", {}, rows));
      const body = element("tbody", {}, rows);
      marked(chart.view.scenegraph().root, RegExp(`^${mark}(_\\d+)?_marks$`)).forEach(({ datum }) => {
        row(Object.keys(columns).map((field) => shown(datum[field])), ["row"], body);
      });
    };
    folded.addEventListener("toggle", fill);
    return { fill };
  }

  // The items of a mark by its name, in whatever panel it is. (Altair numbers names inside panels.)
  function marked(scene, name) {
    if (name.test(scene.name)) return scene.items;
    for (const inner of scene.items || []) {
      const found = marked(inner, name);
      if (found) return found;
    }
    return null;
  }

  function redraw(chart) {
    // One drawing at a time, in order: two quick theme changes must not cross.
    chart.drawn = Promise.resolve(chart.drawn)
      .then(() => draw(chart))
      .catch((error) => damaged(chart, error));
  }

  // Vega listens to the window only; a chart also changes width when the sidebar opens, or when
  // the page's layout settles after the window did.
  function watchWidth() {
    let timer;
    const observer = new ResizeObserver(() => {
      clearTimeout(timer);
      timer = setTimeout(() => window.dispatchEvent(new Event("resize")), 100);
    });
    charts.forEach((chart) => observer.observe(chart.box));
  }

  async function start() {
    const boxes = document.querySelectorAll(".book-chart");
    if (!boxes.length) return;
    boxes.forEach((box) => {
      try {
        prepare(box); // one that is damaged leaves the others
      } catch (error) {
        damaged(charts.at(-1), error);
      }
    });
    const whole = charts.filter((chart) => !chart.failed);
    try {
      await loadVega();
    } catch (error) {
      charts.forEach((chart) => (chart.picture.textContent = "Charts could not be loaded."));
      throw error;
    }
    whole.forEach(redraw);
    watchWidth();
    let theme = root.dataset.theme;
    new MutationObserver(() => {
      if (theme === root.dataset.theme) return;
      theme = root.dataset.theme;
      whole.forEach(redraw);
    }).observe(root, { attributes: true, attributeFilter: ["data-theme"] });
  }

  // This script is deferred: the whole page has been read when it runs.
  start();
})();
