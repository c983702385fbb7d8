/* For who uses the keyboard: few stops on the way to a figure. */
{
  // The list of chapters comes behind the page, and stays at its left (book.css). At once: later it would lose where it is scrolled to.
  const chapters = document.querySelector(".bd-sidebar-primary");
  document.querySelector("main").after(chapters);
  // Where it lies folded, its button leads into it.
  document.querySelector(".primary-toggle")?.addEventListener("click", () =>
    setTimeout(() => chapters.querySelector("a, button").focus(), 300),
  );
}
addEventListener("DOMContentLoaded", () => {
  "use strict";
  const WIDGET = 'script[type="application/vnd.jupyter.widget-view+json"]';

  // More links to skip to, beside the theme's.
  const before = document.getElementById("pst-skip-link");
  function skip(words, where) {
    const link = before.cloneNode(true);
    link.removeAttribute("id");
    const anchor = link.querySelector("a");
    anchor.textContent = words;
    anchor.addEventListener("click", (event) => {
      const place = document.querySelector(where);
      event.preventDefault();
      place.tabIndex = -1;
      place.focus();
    });
    before.after(link);
  }
  skip("Skip to the list of chapters", ".bd-sidebar-primary nav");
  if (document.querySelector(`.book-chart, ${WIDGET}`)) skip("Skip to the first interactive figure", ".book-chart, div.book-live, .book-widget");

  // Code is selected and copied with the keyboard as any text; a button a cell would be a stop a cell.
  addEventListener("load", () => {
    document.querySelectorAll(".copybtn").forEach((button) => (button.tabIndex = -1));
  });
});
