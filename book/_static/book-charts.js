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
    const spec = JSON.parse(box.querySelector("script").textContent);
    const meta = spec.usermeta || {};
    if (meta.say) {
      spec.params = [...(spec.params || []), { name: "say", expr: meta.say }];
    }
    const picture = element("div", { class: "book-chart-picture" }, box);
    const chart = { box, spec, picture, labels: meta.labels || {}, view: null, drawn: null };
    const bound = (spec.params || []).filter((param) => param.bind && "value" in param);
    const saved = Object.fromEntries(bound.map((param) => [param.name, param.value]));
    chart.setting = spec.name ? window.bookAddress.read(spec.name, saved) : saved;
    bound.forEach((param) => {
      if (possible(param.bind, chart.setting[param.name])) param.value = chart.setting[param.name];
      else chart.setting[param.name] = param.value;
    });
    chart.write = spec.name ? window.bookAddress.writer(spec.name, saved) : () => {};
    if (meta.table) chart.table = table(chart, meta.table);
    charts.push(chart);
    return chart;
  }

  // An address may ask for what a control does not offer.
  function possible(bind, value) {
    if (bind.options) return bind.options.includes(value);
    return bind.input !== "range" || (value >= bind.min && value <= bind.max);
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
      theme: dark ? "dark" : undefined,
      tooltip: { theme: dark ? "dark" : "light" },
      config: { background: "transparent", axis: dark ? { gridColor: "#444" } : {} },
    });
    chart.finalize = drawn.finalize;
    Object.entries(chart.setting).forEach(([name, value]) => drawn.view.signal(name, value));
    await drawn.view.runAsync();
    chart.picture.querySelectorAll(".vega-bind").forEach((row) => name(row));
    controls(chart).forEach((control) => {
      if (control.type === "range") tellValue(chart, drawn.view, control);
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

  // Vega puts a control and its value into one label: name the control alone.
  function name(row) {
    const words = row.querySelector(".vega-bind-name").textContent.trim();
    const radios = row.querySelectorAll("input[type=radio]");
    if (radios.length) {
      row.setAttribute("role", "radiogroup");
      row.setAttribute("aria-label", words);
    } else {
      row.querySelector("input, select").setAttribute("aria-label", words);
    }
  }

  // A slider over listed values shows the value and not its place in the list.
  function tellValue(chart, view, slider) {
    const list = chart.labels[slider.name];
    const output = document.createElement("output");
    slider.nextElementSibling.replaceWith(output); // Vega's own, which shows the place
    const tell = () => {
      const value = view.signal(slider.name);
      const words = String(list ? list[value - slider.min] : value);
      output.textContent = words;
      slider.setAttribute("aria-valuetext", words);
    };
    view.addSignalListener(slider.name, tell);
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
      .catch((error) => {
        chart.picture.textContent = "This chart could not be drawn: " + error.message;
        console.error(error);
      });
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
    boxes.forEach(prepare);
    try {
      await loadVega();
    } catch (error) {
      charts.forEach((chart) => (chart.picture.textContent = "Charts could not be loaded."));
      throw error;
    }
    charts.forEach(redraw);
    watchWidth();
    let theme = root.dataset.theme;
    new MutationObserver(() => {
      if (theme === root.dataset.theme) return;
      theme = root.dataset.theme;
      charts.forEach(redraw);
    }).observe(root, { attributes: true, attributeFilter: ["data-theme"] });
  }

  // This script is deferred: the whole page has been read when it runs.
  start();
})();
