// The computing half of the pruning explorer, in node. CASES names a file of networks as their page reads them, with
// costs and refusals of really pruned ones (tests/test_pruning_explorer.py writes it).
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";

import { left, nearest, offers, readOff, refusal, ways, writeOff } from "../modlib/book/widgets/pruning.js";

test("costs and refusals are those of pruned networks", { skip: !process.env.CASES }, () => {
  const { networks, cases } = JSON.parse(readFileSync(process.env.CASES));
  assert.ok(cases.length >= 12);
  for (const { network, off, macs, params, refused } of cases) {
    const about = networks[network];
    assert.deepEqual(left(about, off), { macs, params });
    const said = about.layers.map((_, i) => [i, refusal(about, off, i)]).filter(([i, why]) => why && !off.includes(i));
    assert.deepEqual(said, refused);
    assert.deepEqual(readOff(writeOff(off), about), off);
  }
});

// Two stages: a stem that cannot go, three layers that can, two of which one must stay.
const network = {
  layers: ["stem", "a.0", "a.1", "a.2", "b.0", "b.1"],
  stages: ["stem", "a", "a", "a", "b", "b"],
  why: ["it is the stem", "", "", "", "", ""],
  macs: [1, 10, 10, 10, 40, 40],
  params: [1, 2, 3, 4, 5, 6],
  whole: { macs: 111, params: 21 },
  variants: [{ removed: [1, 2] }, { removed: [1, 2], start: "from scratch" }, { removed: [5] }],
};

test("an address that makes no sense takes off what can go", () => {
  assert.deepEqual(readOff("", network), []);
  assert.deepEqual(readOff("3-2-2-99-x-0-1-2.5", network), [1, 2]);
  assert.deepEqual(readOff("2-3-4-5-6", network), [1, 2, 4]); // one of each stage stays
  assert.equal(writeOff([4, 1]), "2-5");
});

test("the last of a stage cannot go", () => {
  assert.equal(refusal(network, [1, 2], 3), "it is the last of a, which would be empty");
  assert.equal(refusal(network, [1], 3), "");
  assert.equal(refusal(network, [], 0), "it is the stem");
});

test("the nearest variant differs in the fewest layers, then in the fewest MACs", () => {
  assert.deepEqual(nearest(network, [1, 2]), { variants: network.variants.slice(0, 2), distance: 0 });
  assert.equal(nearest(network, [1, 2, 3]).distance, 1);
  assert.deepEqual(nearest(network, [4, 5]).variants, [network.variants[2]]);
  const tie = { ...network, variants: [{ removed: [4] }, { removed: [3] }] };
  assert.deepEqual(nearest(tie, [2]).variants, [{ removed: [3] }]); // both differ in two layers
  assert.equal(nearest({ ...network, variants: [] }, [1]), null);
});

test("a network that several ways of choosing name is offered once, by all of them", () => {
  const variants = [
    { removed: [3], title: "1 layer: the last" },
    { removed: [3, 5], title: "2 layers: the last" },
    { removed: [3], title: "1 layer: smallest L1 norm" },
    { removed: [3], title: "1 layer: the last", start: "from scratch" },
  ];
  assert.deepEqual(offers({ variants }), [
    ["4", "1 layer: the last = smallest L1 norm"],
    ["4-6", "2 layers: the last"],
  ]);
  assert.equal(ways(nearest({ ...network, variants }, [3]).variants), "1 layer: the last = smallest L1 norm");
});
