/* Tables of words become cards on a narrow screen (book.css): each cell is told the name of its column. */
(function () {
  "use strict";

  const COLUMNS = 3; // fewer fit
  const LETTERS = 30; // a cell with more makes a table of words; numbers are compared down their column

  for (const table of document.querySelectorAll("article table")) {
    const heads = [...(table.tHead?.rows ?? [])]; // two where the first column has a name of its own
    const rows = [...table.tBodies].flatMap(({ rows }) => [...rows]);
    const columns = heads[0]?.cells.length ?? 0;
    if (columns < COLUMNS || [...heads, ...rows].some(({ cells }) => cells.length !== columns)) continue;
    if (!rows.some(({ cells }) => [...cells].some(({ textContent }) => textContent.trim().length > LETTERS))) continue;
    table.classList.add("book-cards");
    table.setAttribute("role", "table"); // which it stays, however it is laid out
    for (const part of [table.tHead, ...table.tBodies]) part.setAttribute("role", "rowgroup");
    for (const row of [...heads, ...rows]) row.setAttribute("role", "row");
    for (const { cells } of heads) for (const cell of cells) cell.setAttribute("role", "columnheader");
    const names = Array.from({ length: columns }, (_, i) => heads.map(({ cells }) => cells[i].textContent.trim()).join(" "));
    for (const { cells } of rows)
      [...cells].forEach((cell, i) => {
        cell.setAttribute("role", cell.tagName === "TH" ? "rowheader" : "cell");
        cell.dataset.column = names[i].trim();
      });
  }
})();
