"""How the book shows the records: which of them (:mod:`modlib.book.records`), claims, tables, words, charts and widgets."""
