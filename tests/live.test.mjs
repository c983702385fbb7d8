// What the live laboratory does without a page or a network, in node: `node --test tests/live.test.mjs`.
import assert from "node:assert/strict";
import { createServer } from "node:http";
import test from "node:test";

import { drawn, normal, random } from "../book/_static/live/chance.js";
import { Lost, library } from "../book/_static/live/files.js";
import { CORRUPTIONS, PIXELS, bytes, planes, step, steps } from "../book/_static/live/images.js";
import { inSquare, layout } from "../book/_static/live/layout.js";
import { SAVED, demand, fit, grouping, heldOf, keys, letters, sequence } from "../book/_static/live/settings.js";
import { lay, read, shuffled, untrained } from "../book/_static/live/weights.js";

const classes = "airplane automobile bird cat deer dog frog horse ship truck".split(" ");
const pool = Array.from({ length: 50 }, (_, i) => i % 10);
const about = { networks: ["resnet20", "vgg11"], classes, pool, gpu: false };
const asked = (more) => fit({ ...SAVED, n: 30, ...more }, about);

test("chance repeats", () => {
  const next = random(7);
  assert.deepEqual([next(), next()], [0.011704753153026104, 0.06195825757458806]);
  assert.deepEqual(
    [...drawn(10, 10, random(1))].sort((a, b) => a - b),
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
  );
  const gauss = normal(random(3));
  const values = Array.from({ length: 20000 }, gauss);
  const mean = values.reduce((a, b) => a + b) / values.length;
  assert.ok(Math.abs(mean) < 0.03 && Math.abs(values.reduce((a, b) => a + b * b, 0) / values.length - 1) < 0.05);
});

test("groups: ten, two kinds, the reader's own, and classes that take no part", () => {
  assert.deepEqual(grouping("classes", classes).names, classes);
  assert.deepEqual(grouping("kinds", classes), { names: ["animal", "vehicle"], of: [1, 1, 0, 0, 0, 0, 0, 0, 1, 1] });
  assert.deepEqual(grouping("BB-C------", classes), {
    names: ["group B", "cat"],
    of: [0, 0, -1, 1, -1, -1, -1, -1, -1, -1],
  });
  assert.equal(letters("AB", classes), null);
  assert.equal(letters("ABCDEFGHI!", classes), null);
  assert.deepEqual(sequence({ draw: 0, groups: "AB--------" }, about).slice(0, 4), [0, 1, 10, 11]);
  assert.notDeepEqual(sequence({ draw: 1, groups: "classes" }, about), sequence({ draw: 2, groups: "classes" }, about));
});

test("what an address asks for in vain is told in a sentence, and the page goes on", () => {
  assert.deepEqual(asked({}).told, []);
  const cases = [
    [{ network: "constructor" }, { network: "resnet20" }, /no network “constructor”/],
    [{ n: 1e9 }, { n: 50 }, /n = 1000000000 is more than the 50 images/],
    [{ n: -3 }, { n: 20 }, /n = -3 is fewer than the 20 images/],
    [{ k: 30 }, { k: 29 }, /k = 30 is not below N = 30/],
    [{ k: NaN }, { k: 3 }, null],
    [{ k: 0 }, { k: 1 }, /k = 0/],
    [{ eps: 300 }, { eps: 76 }, /eps = 300/],
    [{ attack: "<b>" }, { attack: "none" }, /no attack “<b>”/],
    [{ groups: "AAAA" }, { groups: "classes" }, /ten classes instead/],
    [{ groups: "AAAAAAAAAA" }, { groups: "AAAAAAAAAA" }, /at least two groups/],
    [{ groups: "----------" }, { n: 2 }, /No class takes part/],
    [{ on: "gpu" }, { on: "cpu" }, /no graphics processor/],
  ];
  for (const [ask, wanted, says] of cases) {
    const { setting, told } = asked(ask);
    for (const [key, value] of Object.entries(wanted)) assert.equal(setting[key], value, JSON.stringify(ask));
    if (says) assert.match(told.join(" "), says);
    else assert.deepEqual(told, []);
  }
});

test("features are computed again only for what changes them", () => {
  const of = (more) => keys({ ...SAVED, ...more });
  for (const same of [{ k: 9 }, { groups: "kinds" }, { n: 20 }, { eps: 4 }, { share: 3 }, { strength: 1 }])
    assert.deepEqual(of(same), of({}));
  assert.equal(of({ attack: "fgsm", eps: 4 }).clean, of({}).clean);
  assert.notEqual(of({ attack: "fgsm", eps: 4 }).attacked, of({ attack: "fgsm", eps: 8 }).attacked);
  assert.notEqual(of({ weights: "shuffled", share: 3 }).model, of({ weights: "shuffled", share: 5 }).model);
});

test("what a setting takes: more for more images, neighbours and steps", () => {
  const vgg = [65536, 32768, 16384];
  assert.equal(heldOf(vgg, 500), 32768); // the first layer in two parts
  assert.equal(heldOf(vgg, 100), 65536); // little enough as a whole
  assert.equal(heldOf([16384, 16384, 8192], 2500), 16384);
  const net = { macs: 4e7, widths: [16384, 8192], tensors: [{ offset: 0 }, { offset: 1e6 }] };
  const of = (more) => demand(net, { ...SAVED, ...more });
  assert.deepEqual(of({ n: 20 }), of({ n: 500 })); // so many are computed at least
  assert.deepEqual(of({}).work, 500 * 4e7 + 0.75 * 24576 * 500 ** 2);
  const rising = [{}, { n: 2500 }, { n: 2500, attack: "fgsm" }, { n: 2500, attack: "pgd", steps: 2 }].map(of);
  rising.slice(1).forEach(({ work }, i) => assert.ok(work > rising[i].work));
  assert.ok(of({ n: 2500, k: 2499 }).bytes > of({ n: 2500 }).bytes + 6 * 2 * 2500 * 2000);
});

test("images: there and back, brightness, blur, noise; steps stay in the ball", () => {
  const rgba = Uint8ClampedArray.from({ length: 4096 }, (_, i) => (i % 4 === 3 ? 255 : (i * 37) % 256));
  assert.deepEqual(bytes(planes(rgba)), rgba);
  const grey = new Float32Array(PIXELS).fill(0.5);
  assert.ok(CORRUPTIONS.brightness.apply(grey, 3).every((v) => Math.abs(v - 0.8) < 1e-6));
  assert.ok(CORRUPTIONS.blur.apply(grey, 5).every((v) => Math.abs(v - 0.5) < 1e-6));
  assert.deepEqual(CORRUPTIONS.noise.apply(grey, 2, 11), CORRUPTIONS.noise.apply(grey, 2, 11));
  assert.notDeepEqual(CORRUPTIONS.noise.apply(grey, 2, 11), CORRUPTIONS.noise.apply(grey, 2, 12));
  const moved = step(Float32Array.of(0.5, 0.55, 0, 1), Float32Array.of(0.5, 0.5, 0, 1), [1, 2, -1, 0], 0.03, 0.06);
  assert.deepEqual(
    [...moved].map((v) => +v.toFixed(4)),
    [0.53, 0.56, 0, 1],
  );
  assert.deepEqual(steps("fgsm", 0.1, 10), [0.1]);
  assert.equal(steps("pgd", 0.1, 10).length, 10);
});

const shape = { name: "a.weight", shape: [2, 3], offset: 0 };

test("weights of every precision, shuffled in part, drawn anew", () => {
  const pack = (tensors) => {
    const [header, parts] = [{}, []];
    let at = 0;
    for (const [name, dtype, array] of tensors) {
      const part = new Uint8Array(array.buffer);
      header[name] = { dtype, shape: [array.length], data_offsets: [at, at + part.length] };
      parts.push(part);
      at += part.length;
    }
    const text = new TextEncoder().encode(JSON.stringify(header));
    const size = new Uint8Array(BigUint64Array.of(BigInt(text.length)).buffer);
    return Uint8Array.from([...size, ...text, ...parts.flatMap((part) => [...part])]).buffer;
  };
  const whole = [1, -2, 0.5, 0, 65504, 2 ** -24];
  const halves = read(pack([["a", "F16", Uint16Array.of(0x3c00, 0xc000, 0x3800, 0, 0x7bff, 1)]]));
  assert.deepEqual([...lay(halves, [{ name: "a", shape: [2, 3], offset: 0 }])], whole);
  const eight = read(
    pack([
      ["a", "I8", Int8Array.of(127, -1, 0, 2)],
      ["a.scale", "F32", Float32Array.of(0.5, 2)],
      ["c", "I64", BigInt64Array.of(1n)],
    ]),
  );
  assert.deepEqual([...lay(eight, [{ name: "a", shape: [2, 2], offset: 0 }])], [63.5, -0.5, 0, 4]);
  const others = { b: [4], a: [3], c: [1], constructor: [1], __metadata__: [1] };
  for (const [name, shape] of Object.entries(others))
    assert.throws(() => lay(eight, [{ name, shape, offset: 0 }]), /do not fit/, name);

  const places = [shape, { name: "a.bias", shape: [2], offset: 24 }];
  const all = Float32Array.of(1, 2, 3, 4, 5, 6, 7, 8);
  assert.deepEqual(shuffled(all, places, 0, 1), all);
  const mixed = shuffled(all, places, 1, 1);
  assert.notDeepEqual(mixed, all);
  assert.deepEqual([...mixed.slice(0, 6)].sort(), [1, 2, 3, 4, 5, 6]);
  assert.deepEqual([...mixed.slice(6)], [7, 8]);
  const many = Float32Array.from({ length: 1000 }, (_, i) => i);
  const tenth = shuffled(many, [{ name: "a", shape: [10, 100], offset: 0 }], 0.1, 1);
  const changed = tenth.filter((value, i) => value !== i).length;
  assert.ok(changed > 80 && changed <= 100, changed);

  const fresh = untrained(
    [
      { name: "c.weight", shape: [64, 8, 3, 3], offset: 0 },
      { name: "n.weight", shape: [4], offset: 18432 },
      { name: "n.bias", shape: [4], offset: 18448 },
      { name: "l.weight", shape: [10, 16], offset: 18464 },
      { name: "l.bias", shape: [10], offset: 19104 },
    ],
    1,
  );
  const std = Math.sqrt(fresh.subarray(0, 4608).reduce((a, b) => a + b * b, 0) / 4608);
  assert.ok(Math.abs(std / Math.sqrt(2 / (64 * 9)) - 1) < 0.05, std);
  assert.deepEqual([...fresh.subarray(4608, 4616)], [1, 1, 1, 1, 0, 0, 0, 0]);
  assert.ok(fresh.subarray(4616).every((value) => value !== 0 && Math.abs(value) <= 0.25));
});

test("a layout puts two cliques apart, inside the unit square", () => {
  const [n, keep] = [20, 9];
  const neighbours = Uint16Array.from({ length: n * keep }, (_, e) => {
    const [i, place] = [Math.floor(e / keep), e % keep];
    return 10 * Math.floor(i / 10) + ((i + 1 + place) % 10);
  });
  const at = inSquare(layout({ n, keep, neighbours, similarity: new Float32Array(n * keep).fill(1) }));
  assert.ok(at.every((value) => value >= 0 && value <= 1));
  const gap = (i, j) => Math.hypot(at[2 * i] - at[2 * j], at[2 * i + 1] - at[2 * j + 1]);
  for (let i = 0; i < 10; i++) assert.ok(Math.max(...[...Array(10).keys()].map((j) => gap(i, j))) < gap(i, 10 + i));
});

test("a download that breaks goes on where it broke; one that is not there is told", async () => {
  const content = Buffer.from(Array.from({ length: 5000 }, (_, i) => i % 251));
  const asks = [];
  const server = createServer((request, answer) => {
    asks.push(request.headers.range ?? "all");
    if (request.url === "/gone") return answer.writeHead(404).end();
    const from = Number(/\d+/.exec(request.headers.range ?? "0")[0]);
    answer.writeHead(from ? 206 : 200, { "Content-Length": content.length - from });
    if (from) answer.end(content.subarray(from));
    else answer.write(content.subarray(0, 2000), () => answer.destroy());
  }).listen(0, "127.0.0.1");
  await new Promise((resolve) => server.on("listening", resolve));
  const heard = [];
  const files = library(
    `http://127.0.0.1:${server.address().port}/`,
    { whole: 5000 },
    (name, bytes) => heard.push(bytes),
    1,
  );
  const coming = files.load("whole");
  assert.ok(!files.has("whole"));
  assert.deepEqual(Buffer.from(await coming), content);
  assert.ok(files.has("whole"));
  assert.deepEqual(asks, ["all", "bytes=2000-"]);
  assert.equal(heard.at(-1), 5000);
  await assert.rejects(files.load("gone"), (error) => error instanceof Lost && /404/.test(error.message));
  server.close();
});
