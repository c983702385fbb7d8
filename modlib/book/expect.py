"""Readings of the text, held to the numbers beside them."""

from modlib.scale import device, scale


def expect(condition, reading: str) -> None:
    """Say nothing where a reading of the text holds; where the numbers no longer bear it out, do not let it stand.

    Args:
        condition: of the numbers that the cell has just shown.
        reading: what the text says, in its words.

    Raises:
        AssertionError: with MODLIB_SCALE=book, if the condition is false: the build fails until the text is mended. With any
            other scale, or on a GPU, which rounds otherwise, the numbers are the reader's own: a note is printed instead.

    >>> expect(2 > 1, "the second is larger")
    """
    if condition:
        return
    note = f"The numbers above no longer bear out the reading “{reading}”."
    if scale() == "book" and device().type == "cpu":
        raise AssertionError(note)
    print(note)
