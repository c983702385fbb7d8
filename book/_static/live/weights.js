/* Weights of a network: read from a safetensors file in any precision, shuffled in part, or drawn anew. */

import { drawn, normal, random } from "./chance.js";

const SCALE = ".scale"; // behind the name of an int8 tensor: the name of its channels' scales, as in modlib.zoo

function half(bits) {
  const [exponent, fraction] = [(bits >> 10) & 31, bits & 1023];
  const size = exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -14 * (fraction / 1024);
  return bits & 0x8000 ? -size : size;
}

/** The tensors of a file: fill(name, into) writes one into a Float32Array, and is false where there is none of that size. */
export function read(buffer) {
  const start = 8 + Number(new DataView(buffer).getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, start - 8)));
  const raw = (name) => {
    if (!Object.hasOwn(header, name)) return [];
    const {
      dtype,
      data_offsets: [from, to],
    } = header[name];
    const bytes = buffer.slice(start + from, start + to);
    if (dtype === "F32") return new Float32Array(bytes);
    if (dtype === "F16") return new Float32Array(new Uint16Array(bytes)).map(half); // Float32Array.from would list them first
    return dtype === "I8" ? new Int8Array(bytes) : [];
  };
  return (name, into) => {
    const values = raw(name);
    if (values.length !== into.length) return false;
    into.set(values);
    if (!(values instanceof Int8Array)) return true;
    const scale = raw(name + SCALE);
    const row = values.length / scale.length;
    for (let i = 0; i < into.length; i++) into[i] *= scale[Math.floor(i / row)];
    return true;
  };
}

const size = (shape) => shape.reduce((product, each) => product * each, 1);

/** One array of all weights, each at the place that the graphs read it from: `places` are {name, shape, offset}, in bytes.
    `fill(name, into, place)` writes one tensor: there is no second copy of the network. */
export function lay(fill, places) {
  const last = places.at(-1);
  const all = new Float32Array(last.offset / 4 + size(last.shape));
  places.forEach(({ name, shape, offset }, place) => {
    const into = all.subarray(offset / 4, offset / 4 + size(shape));
    if (!fill(name, into, place)) throw new Error(`the weights do not fit the network: ${name}`);
  });
  return all;
}

/** A copy in which `share` of the weights of each convolution and linear layer, drawn by lot, have changed places. */
export function shuffled(all, places, share, seed) {
  const mixed = all.slice();
  places.forEach(({ shape, offset }, place) => {
    if (shape.length < 2) return;
    const [from, count] = [offset / 4, Math.round(share * size(shape))];
    const chosen = drawn(size(shape), count, random(seed + place));
    chosen.toSorted().forEach((to, i) => (mixed[from + to] = all[from + chosen[i]]));
  });
  return mixed;
}

/** Weights of an untrained network: convolutions as modlib.build_model draws them (He et al. 2015, by what goes out), linear
    layers as torch does (uniform, by what comes in), batch normalisations that change nothing. */
export function untrained(places, seed) {
  const shapes = new Map(places.map(({ name, shape }) => [name, shape]));
  const fill = (name, into, place) => {
    const shape = shapes.get(name);
    const next = random(seed + place);
    const weight = shapes.get(name.replace(/\.bias$/, ".weight"));
    const gauss = normal(next);
    const deviation = Math.sqrt(2 / (size(shape) / shape[1])); // of a convolution
    const bound = weight?.length === 2 && 1 / Math.sqrt(weight[1]); // of a linear layer
    const one = shape.length === 1 && /weight$|running_var$/.test(name) ? 1 : 0;
    const value = bound ? () => bound * (2 * next() - 1) : shape.length > 2 ? () => deviation * gauss() : () => one;
    for (let i = 0; i < into.length; i++) into[i] = value();
    return true;
  };
  return lay(fill, places);
}
