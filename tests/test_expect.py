"""A reading that the numbers do not bear out fails the build, and is a note in a reader's own run."""

import pytest

from modlib.book.expect import expect


@pytest.mark.parametrize("scale", ["smoke", "book", "full"])
def test_a_reading_that_holds_is_silent(monkeypatch, capsys, scale):
    monkeypatch.setenv("MODLIB_SCALE", scale)
    expect(True, "Q rises")
    assert not capsys.readouterr().out


def test_a_reading_that_does_not_hold_fails_the_build(monkeypatch):
    monkeypatch.delenv("MODLIB_SCALE", raising=False)
    with pytest.raises(AssertionError, match="“Q rises”"):
        expect(False, "Q rises")


@pytest.mark.parametrize("scale", ["smoke", "full"])
def test_with_numbers_of_ones_own_it_is_a_note(monkeypatch, capsys, scale):
    monkeypatch.setenv("MODLIB_SCALE", scale)
    expect(False, "Q rises")
    assert "no longer bear out the reading “Q rises”" in capsys.readouterr().out
