/* Shows anywidgets on a page without a kernel: reads the widget state saved with the notebook,
   imports each widget's own module from it, and hands the module a model that only remembers.
   Where the controls stand (the trait "setting") is kept in the address of the page.
   window.bookWidgets lists what is shown. */
(function () {
  "use strict";

  const STATE = 'script[type="application/vnd.jupyter.widget-state+json"]';
  const VIEW = 'script[type="application/vnd.jupyter.widget-view+json"]';

  const shown = (window.bookWidgets = []);

  function followAddress(model, state) {
    const write = window.bookAddress.writer(state.name, state.setting);
    state.setting = window.bookAddress.read(state.name, state.setting);
    model.on("change:setting", () => write(state.setting));
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
      window.bookAddress.aim(model.get("name"), box);
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
