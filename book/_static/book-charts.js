/* Draws each <div class="book-chart"> from the JSON inside it, and keeps it usable for everyone:
   redrawn in the page's theme and width, controls with names and true values, and a sentence
   that says what the picture shows now. window.bookCharts lists what was drawn. */
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
    charts.push(chart);
    return chart;
  }

  const controls = (chart) => chart.picture.querySelectorAll("input[name], select[name]");

  async function draw(chart) {
    const values = {};
    if (chart.view) {
      controls(chart).forEach((control) => {
        values[control.name] = chart.view.signal(control.name);
      });
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
    Object.entries(values).forEach(([name, value]) => drawn.view.signal(name, value));
    await drawn.view.runAsync();
    chart.picture.querySelectorAll(".vega-bind").forEach((row) => name(row));
    controls(chart).forEach((control) => {
      if (control.type === "range") tellValue(chart, drawn.view, control);
    });
    tellSentence(chart, drawn.view);
    chart.view = drawn.view; // set last: a chart with a view is ready to use
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
    const tell = () => {
      line.textContent = view.signal("say");
    };
    view.addSignalListener("say", tell);
    tell();
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
