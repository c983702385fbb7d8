"""How the records of the book are measured: :mod:`modlib.campaign.reproduce` runs what :mod:`modlib.campaign.figures` lists."""

from modlib._moved import forward

__getattr__ = forward(__name__)
