"""What the paper claims, tested by stated rules on its own printed values and on our records."""

import pandas as pd

from modlib.book.claims import section4, section5
from modlib.paper import OURS
from modlib.results import Records


def claims(records: Records) -> pd.DataFrame:
    """What Sections 4 and 5 and Appendix A.3 observe, tested by a rule on the paper's curves and on ours.

    Columns: section, claim, rule (when it holds), whose ("paper" or "ours"), tested on, number (what was measured),
    verdict ("holds", "does not hold", "not decided" or "not measured").
    """
    rows = []
    for printed, recorded, tests in (*section4.TESTS, *section5.TESTS):
        for whose, measured in (("paper", printed()), ("ours", recorded(records))):
            rows += [(whose, *row) for test in tests for row in test(measured)]
    columns = ["whose", "section", "claim", "rule", "tested on", "number", "verdict"]
    table = pd.DataFrame(rows, columns=columns).sort_values(["section", "claim"], kind="stable", ignore_index=True)
    for printed, stand_in in OURS.items():  # the paper's curves keep the name of its dataset
        theirs = table["whose"] == "paper", ["tested on", "number"]
        table.loc[theirs] = table.loc[theirs].replace(stand_in, printed, regex=True)
    return table[["section", "claim", "rule", "whose", "tested on", "number", "verdict"]]
