"""How the records of the book are measured: :mod:`modlib.campaign.reproduce` runs what :mod:`modlib.campaign.figures` lists."""
