/* Shows anywidgets on a page without a kernel: reads the widget state saved with the notebook,
   imports each widget's own module from it, and hands the module a model that only remembers.
   Where the controls stand (the trait "setting") is kept in the address of the page, so that a
   link leads to it. window.bookWidgets lists what is shown. */
(function () {
  "use strict";

  const STATE = 'script[type="application/vnd.jupyter.widget-state+json"]';
  const VIEW = 'script[type="application/vnd.jupyter.widget-view+json"]';

  const shown = (window.bookWidgets = []);

  // The address names a widget's control as "widget.control"; values keep the type they were saved with.
  function fromAddress({ name, setting }) {
    const asked = new URLSearchParams(location.search);
    return Object.fromEntries(
      Object.entries(setting).map(([key, saved]) => {
        const text = asked.get(`${name}.${key}`);
        if (text === null) return [key, saved];
        if (typeof saved === "number") return [key, Number.isFinite(+text) ? +text : saved];
        return [key, typeof saved === "boolean" ? text === "true" : text];
      })
    );
  }

  function toAddress({ name, setting }, saved) {
    const asked = new URLSearchParams(location.search);
    for (const [key, value] of Object.entries(setting)) {
      if (value === saved[key]) asked.delete(`${name}.${key}`);
      else asked.set(`${name}.${key}`, value);
    }
    const query = asked.size ? "?" + asked : "";
    try {
      history.replaceState(history.state, "", location.pathname + query + location.hash);
    } catch {} // a browser may refuse this to files
  }

  // A slider that is dragged moves often; browsers refuse an address that changes too often.
  function followAddress(model, state) {
    const saved = state.setting;
    let timer;
    state.setting = fromAddress(state);
    model.on("change:setting", () => {
      clearTimeout(timer);
      timer = setTimeout(() => toAddress(state, saved), 200);
    });
  }

  function bytes(base64) {
    return new DataView(Uint8Array.from(atob(base64), (c) => c.charCodeAt(0)).buffer);
  }

  function staticModel({ state, buffers = [] }) {
    const listeners = {};
    for (const { path, data } of buffers) {
      const parent = path.slice(0, -1).reduce((value, key) => value[key], state);
      parent[path.at(-1)] = bytes(data);
    }
    const emit = (event) => (listeners[event] || []).slice().forEach((listener) => listener());
    return {
      get: (key) => state[key],
      set(key, value) {
        if (state[key] === value) return;
        state[key] = value;
        emit("change:" + key);
        emit("change");
      },
      on: (event, listener) => (listeners[event] ||= []).push(listener),
      off(event, listener) {
        listeners[event] = (listeners[event] || []).filter((l) => listener && l !== listener);
      },
      save_changes() {}, // nobody to save to
      send() {}, // nobody to answer
      widget_manager: null,
    };
  }

  async function loadWidget(state) {
    if (state._css) {
      const style = document.createElement("style");
      style.textContent = state._css;
      document.head.append(style);
    }
    const url = URL.createObjectURL(new Blob([state._esm], { type: "text/javascript" }));
    const { default: widget } = await import(url);
    URL.revokeObjectURL(url);
    return typeof widget === "function" ? widget() : widget;
  }

  async function mount(place, models) {
    const { model_id: id } = JSON.parse(place.textContent);
    const box = document.createElement("div");
    box.className = "book-widget";
    place.before(box);
    try {
      const saved = models[id];
      if (!saved || saved.model_module !== "anywidget") {
        throw new Error("only anywidgets work on a page without a kernel");
      }
      if (!saved.ready) {
        saved.ready = (async () => {
          const widget = await loadWidget(saved.state);
          const model = staticModel(saved);
          if (saved.state.setting) followAddress(model, saved.state);
          if (widget.initialize) await widget.initialize({ model });
          return { widget, model };
        })();
      }
      const { widget, model } = await saved.ready;
      await widget.render({ model, el: box });
      shown.push({ box, model });
    } catch (error) {
      box.textContent = "This widget could not be shown: " + error.message;
      console.error(error);
    }
  }

  function start() {
    const saved = document.querySelector(STATE);
    if (!saved) return;
    const models = JSON.parse(saved.textContent).state;
    document.querySelectorAll(VIEW).forEach((place) => mount(place, models));
  }

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
