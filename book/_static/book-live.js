/* Opens the live laboratory where a page has a place for it. Where it cannot run, one sentence says why, and what was recorded
   stands in its place. A classic script: a page that is opened as a file may load no module. */
(function () {
  "use strict";

  const BASE = new URL("live/", document.currentScript.src);

  function obstacle() {
    if (location.protocol === "file:")
      return "A page that is opened as a file may not start a network: open it over http, for example with python -m http.server.";
    const needs = [
      ["WebAssembly", typeof WebAssembly],
      ["workers", typeof Worker],
      ["unpacking", typeof DecompressionStream],
      ["drawing in workers", typeof OffscreenCanvas],
    ];
    const lacks = needs.filter(([, kind]) => kind === "undefined").map(([name]) => name);
    return lacks.length ? `This browser lacks what a network needs (${lacks.join(", ")}).` : null;
  }

  function sheet(name) {
    const link = document.createElement("link");
    Object.assign(link, { rel: "stylesheet", href: new URL(name, BASE).href });
    document.head.append(link);
  }

  /** What was recorded, behind the place: the cell of the first widget after it. */
  function recorded(box) {
    const widgets = [
      ...document.querySelectorAll('.cell:has(script[type="application/vnd.jupyter.widget-view+json"])'),
    ];
    return widgets.find((cell) => box.compareDocumentPosition(cell) & Node.DOCUMENT_POSITION_FOLLOWING);
  }

  function prepare(box) {
    const place = document.createElement("div");
    box.append(place);
    const whole = box.tagName !== "DETAILS"; // a page of its own, where a recorded figure stands behind
    const instead = whole ? recorded(box) : null;
    const tell = (sentence) => {
      const line = document.createElement("p");
      line.className = "book-live-why";
      line.setAttribute("role", "status");
      line.textContent = `${sentence} ${whole ? "What was recorded for this book stands in its place." : "The figures of this chapter are recorded, and work."}`;
      place.replaceChildren(line);
    };
    const began = () => instead && (instead.hidden = true);
    const failed = () => instead && (instead.hidden = false);
    let opened = null;

    async function open() {
      const why = obstacle();
      if (why) return tell(why);
      ["kit.css", "laboratory.css"].forEach(sheet);
      try {
        const { open: show } = await import(new URL("laboratory.js", BASE).href);
        return await show(place, { base: BASE, saved: JSON.parse(box.dataset.setting), began, failed });
      } catch (error) {
        opened = null;
        tell(`The laboratory could not be loaded (${error.message}).`);
        return null;
      }
    }

    if (whole) open();
    else
      box.addEventListener("toggle", async () => {
        if (box.open) opened ??= open();
        else (await opened)?.close(); // folded away, it computes no more
      });
    if (window.bookAddress.aim("live", box)) box.open = true;
  }

  // Deferred scripts have all run by then, book-address.js too.
  addEventListener("DOMContentLoaded", () => document.querySelectorAll(".book-live").forEach(prepare));
})();
