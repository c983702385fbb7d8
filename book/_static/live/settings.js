/* The laboratory's setting: what an address may say, made possible; and the sample that it means. No page is needed here. */

import { drawn, random } from "./chance.js";
import { CORRUPTIONS } from "./images.js";

/** As saved: an address names what differs from this. Strengths of attacks are 255ths of the range of a value. */
export const SAVED = {
  network: "resnet20",
  weights: "trained",
  share: 20,
  n: 500,
  k: 3,
  draw: 0,
  groups: "classes",
  corruption: "none",
  strength: 3,
  attack: "none",
  eps: 8,
  steps: 10,
  images: "all",
  on: "cpu",
};

const WEIGHTS = ["trained", "shuffled", "untrained"];
const ATTACKS = ["none", "fgsm", "pgd"];
export const LEAST = 500; // images computed at least: every smaller N is part of them
const KEPT = 100; // neighbours that are kept of more images
const LARGE = 64e6; // bytes of features that are not held where less does
export const OUT = "-"; // of a class that takes no part
const ANIMALS = ["bird", "cat", "deer", "dog", "frog", "horse"];
const RANGES = { share: [1, 100], draw: [0, 99], strength: [1, 5], eps: [1, 76], steps: [1, 40] };

const FEWEST = 20; // images: a graph of fewer says little, and may have no edge

const letter = (group) => String.fromCharCode(65 + group);

/** The letter of each class's group: of a named grouping, or of the reader's own; null if the text is neither. */
export function letters(groups, classes) {
  if (groups === "classes") return classes.map((_, c) => letter(c)).join("");
  if (groups === "kinds") return classes.map((name) => letter(ANIMALS.includes(name) ? 0 : 1)).join("");
  const known =
    groups.length === classes.length && [...groups].every((each) => each === OUT || (each >= "A" && each <= "J"));
  return known ? groups : null;
}

/** Names of the groups, and of each class the place of its group among them, -1 if it takes no part. */
export function grouping(groups, classes) {
  const each = letters(groups, classes);
  const used = [...new Set(each)].filter((one) => one !== OUT).sort();
  const named = (one) => {
    const members = classes.filter((_, c) => each[c] === one);
    if (groups === "kinds") return one === "A" ? "animal" : "vehicle";
    return members.length === 1 ? members[0] : `group ${one}`;
  };
  return { names: used.map(named), of: [...each].map((one) => used.indexOf(one)) };
}

/** The nearest setting that can be computed, and a sentence for each thing that could not be had. */
export function fit(asked, { networks, classes, pool, gpu }) {
  const setting = { ...SAVED, ...asked };
  const told = [];
  const among = (key, list, words) => {
    if (list.includes(setting[key])) return;
    told.push(`There is no ${words} “${String(setting[key]).slice(0, 30)}”: ${list[0]} instead.`);
    setting[key] = list[0];
  };
  among("network", networks, "network");
  among("weights", WEIGHTS, "kind of weights");
  among("corruption", Object.keys(CORRUPTIONS), "corruption");
  among("attack", ATTACKS, "attack");
  among("images", ["all", "changed"], "choice of images");
  if (setting.on === "gpu" && !gpu)
    told.push("This browser has no graphics processor for networks: the processor computes.");
  if (setting.on !== "gpu" || !gpu) setting.on = "cpu";
  if (typeof setting.groups !== "string" || !letters(setting.groups, classes)) {
    told.push("The grouping names no groups: ten classes instead.");
    setting.groups = "classes";
  }
  const { names, of } = grouping(setting.groups, classes);
  const possible = pool.filter((label) => of[label] >= 0).length;
  if (names.length < 2) {
    told.push("Modularity needs at least two groups: put one class into another group.");
  }
  const number = (key, low, high, why = "") => {
    const value = Number.isFinite(setting[key]) ? Math.round(setting[key]) : SAVED[key];
    const held = Math.min(high, Math.max(low, value));
    if (held !== value) told.push(`${key} = ${value} ${why || `is not between ${low} and ${high}`}: ${held} instead.`);
    setting[key] = held;
  };
  for (const [key, [low, high]] of Object.entries(RANGES)) number(key, low, high);
  if (possible < 2)
    return { setting: { ...setting, n: 2, k: 1 }, told: [...told, "No class takes part."], possible, fewest: 2 };
  const fewest = Math.min(FEWEST, possible);
  const many = setting.n > possible && `is more than the ${possible} images that there are`;
  number(
    "n",
    fewest,
    possible,
    many || (setting.n < fewest && `is fewer than the ${fewest} images of a graph that says something`),
  );
  number("k", 1, setting.n - 1, setting.k >= setting.n && `is not below N = ${setting.n}`);
  return { setting, told, possible, fewest };
}

/** All images whose class takes part, in the order of a draw: draw 0 is the order in which they are stored. */
export function sequence({ draw, groups }, { classes, pool }) {
  const { of } = grouping(groups, classes);
  const all = draw ? drawn(pool.length, pool.length, random(draw)) : pool.keys();
  return Array.from(all).filter((id) => of[pool[id]] >= 0);
}

export const attacks = (setting) => setting.attack !== "none";

/** Neighbours that are ranked: all of few images, so that any k and any part of them can be had from them. */
export const keepOf = (n, k) => (n <= LEAST ? n - 1 : Math.min(n - 1, Math.max(KEPT, k)));

/** How often an attack asks for a gradient. */
export const turnsOf = ({ attack, steps }) => ({ none: 0, fgsm: 1, pgd: steps })[attack];

/** What a setting asks of a machine at most: multiplications, and bytes. A gradient costs as much as two runs of the network;
    products of pairs of images, with the order of the neighbours, half as much again as those of a network. The bytes are
    those of the runtime, the weights, the widest features that are held, all similarities, and what is kept in the end. */
export function demand({ macs, widths, tensors }, setting) {
  const [images, turns] = [Math.max(setting.n, LEAST), turnsOf(setting)];
  const sum = widths.reduce((all, each) => all + each, 0);
  const graphs = (n) => macs * n + 0.75 * sum * n * n;
  const work = graphs(images) + (turns && 2 * turns * macs * setting.n + graphs(setting.n));
  const kept = (turns ? 2 : 1) * 6 * images * keepOf(images, setting.k) * widths.length;
  const weights = (turns ? 2 : 1) * tensors.at(-1).offset;
  const bytes = 100e6 + weights + 4 * images * heldOf(widths, images) + 4 * images * images + kept + 5 * 3072 * images;
  return { work, bytes };
}

/** Numbers an image that are held at most at a time: a first layer that is wider than all others (VGG11's) is had in parts. */
export function heldOf(widths, n) {
  const [widest, second] = [...widths].sort((a, b) => b - a);
  return widths[0] > second && 4 * n * widest > LARGE ? second : widest;
}

/** What the features of an image depend on, before an attack and with it. */
export function keys(setting) {
  const model = [
    setting.network,
    setting.weights,
    setting.weights === "shuffled" ? setting.share : "",
    setting.on,
  ].join(" ");
  const clean = [model, setting.corruption, setting.corruption === "none" ? "" : setting.strength].join(" ");
  const how = attacks(setting)
    ? [setting.attack, setting.eps, setting.attack === "pgd" ? setting.steps : ""].join(" ")
    : "";
  return { model, clean, attacked: how && `${clean} ${how}` };
}

/** The class of each image of a manifest. */
export const poolOf = ({ images }) => images.parts.flatMap(({ labels }) => labels);

/** Bytes of each file that a manifest names. */
export function sizesIn(manifest) {
  const sizes = {};
  const walk = (value) => {
    if (value?.file) sizes[value.file] = value.bytes;
    if (value && typeof value === "object") Object.values(value).forEach(walk);
  };
  walk(manifest);
  return sizes;
}

/** Names of the files that the first curve of a setting needs. */
export function needed(manifest, setting) {
  const { networks, images, product, runtime } = manifest;
  const { weights, pieces, gradient } = networks.find(({ name }) => name === setting.network);
  const all = sequence(setting, { classes: images.classes, pool: poolOf(manifest) });
  const ids = all.slice(0, Math.max(setting.n, LEAST));
  const parts = images.parts.filter(({ first, count }) => ids.some((id) => id >= first && id < first + count));
  const wanted = [
    ...(setting.on === "gpu" ? runtime.gpu : runtime).files.slice(1), // the module itself is imported
    ...parts,
    weights[setting.weights === "untrained" ? "untrained" : "trained"],
    pieces,
    product,
    attacks(setting) ? gradient : null,
  ];
  return wanted.filter(Boolean).map(({ file }) => file);
}
