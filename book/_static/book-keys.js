/* For who uses the keyboard: few stops on the way to a figure. */
addEventListener("DOMContentLoaded", () => {
  "use strict";
  const WIDGET = 'script[type="application/vnd.jupyter.widget-view+json"]';

  // A second link to skip to, beside the theme's: past the navigation and the links of the text.
  const before = document.getElementById("pst-skip-link");
  if (before && document.querySelector(`.book-chart, ${WIDGET}`)) {
    const link = before.cloneNode(true);
    link.id = "book-skip-link";
    const anchor = link.querySelector("a");
    anchor.textContent = "Skip to the first interactive figure";
    anchor.addEventListener("click", (event) => {
      const first = document.querySelector(".book-chart, .book-widget");
      event.preventDefault();
      first.tabIndex = -1;
      first.focus();
    });
    before.after(link);
  }

  // Code is selected and copied with the keyboard as any text; a button a cell would be a stop a cell.
  addEventListener("load", () => {
    document.querySelectorAll(".copybtn").forEach((button) => (button.tabIndex = -1));
  });
});
