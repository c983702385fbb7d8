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
    const query = `${asked}` && "?" + asked;
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

  // Heights settle after the browser has jumped to a section: jump again until the reader moves. An address that sets a
  // figure's controls and names no section leads to the figure. Gives whether it sets this one's.
  let figure = null;
  function aim(name, box) {
    const asked = [...new URLSearchParams(location.search).keys()].some((key) => key.startsWith(`${name}.`));
    if (asked && !location.hash && !figure) figure = box;
    return asked;
  }

  function section() {
    try {
      return location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    } catch {
      return null; // no address of anything
    }
  }

  function settle() {
    const [visit] = performance.getEntriesByType("navigation");
    if (!(location.hash || location.search) || (visit && visit.type !== "navigate")) return; // a page that is reloaded stays
    const watch = new ResizeObserver(() => (figure || section() || null)?.scrollIntoView({ behavior: "instant" }));
    const leave = () => watch.disconnect();
    for (const move of ["wheel", "touchstart", "pointerdown", "keydown"]) {
      addEventListener(move, leave, { once: true, passive: true });
    }
    setTimeout(leave, 15000);
    watch.observe(document.querySelector("article") || document.body);
  }

  addEventListener("DOMContentLoaded", settle);
  return { read, writer, aim };
})();
