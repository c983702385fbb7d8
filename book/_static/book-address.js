/* Keeps in the address of the page where the controls of its charts and widgets stand, so that a link
   leads to a setting. A control is "figure.control" in the address; one that stands where it was saved
   is left out. */
window.bookAddress = (function () {
  "use strict";

  // The saved setting with what the address says instead; values keep the type they were saved with.
  function read(figure, saved) {
    const asked = new URLSearchParams(location.search);
    return Object.fromEntries(
      Object.entries(saved).map(([key, value]) => {
        const text = asked.get(`${figure}.${key}`);
        if (text === null) return [key, value];
        if (typeof value === "number") return [key, Number.isFinite(+text) ? +text : value];
        return [key, typeof value === "boolean" ? text === "true" : text];
      })
    );
  }

  function write(figure, saved, setting) {
    const asked = new URLSearchParams(location.search);
    for (const [key, value] of Object.entries(setting)) {
      if (value === saved[key]) asked.delete(`${figure}.${key}`);
      else asked.set(`${figure}.${key}`, value);
    }
    const query = asked.size ? "?" + asked : "";
    try {
      history.replaceState(history.state, "", location.pathname + query + location.hash);
    } catch {} // a browser may refuse this to files
  }

  // A slider that is dragged moves often; browsers refuse an address that changes too often.
  function writer(figure, saved) {
    let timer;
    return (setting) => {
      clearTimeout(timer);
      timer = setTimeout(() => write(figure, saved, setting), 200);
    };
  }

  return { read, writer };
})();
