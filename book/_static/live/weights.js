/* Weights of a network: read from a safetensors file in any precision, shuffled in part, or drawn anew. */

import { drawn, normal, random } from "./chance.js";

const SCALE = ".scale"; // behind the name of an int8 tensor: the name of its channels' scales, as in modlib.zoo

function half(bits) {
  const [exponent, fraction] = [(bits >> 10) & 31, bits & 1023];
  const size = exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -14 * (fraction / 1024);
  return bits & 0x8000 ? -size : size;
}

/** Tensors by name, as Float32Array. What is counted in whole numbers is left out. */
export function read(buffer) {
  const start = 8 + Number(new DataView(buffer).getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, start - 8)));
  const raw = (name) => {
    const {
      dtype,
      data_offsets: [from, to],
    } = header[name];
    const bytes = buffer.slice(start + from, start + to);
    if (dtype === "F32") return new Float32Array(bytes);
    if (dtype === "F16") return new Float32Array(new Uint16Array(bytes)).map(half); // Float32Array.from would list them first
    if (dtype === "I8") return new Int8Array(bytes);
    return null;
  };
  const tensors = new Map();
  for (const name of Object.keys(header)) {
    if (name === "__metadata__" || name.endsWith(SCALE)) continue;
    const values = raw(name);
    if (!(values instanceof Int8Array)) {
      if (values) tensors.set(name, values);
      continue;
    }
    const scale = raw(name + SCALE);
    const [row, scaled] = [values.length / scale.length, new Float32Array(values)];
    for (let i = 0; i < scaled.length; i++) scaled[i] *= scale[Math.floor(i / row)];
    tensors.set(name, scaled);
  }
  return tensors;
}

const size = (shape) => shape.reduce((product, each) => product * each, 1);

/** One array of all weights, each at the place that the graphs read it from: `places` are {name, shape, offset}, in bytes. */
export function lay(tensors, places) {
  const last = places.at(-1);
  const all = new Float32Array(last.offset / 4 + size(last.shape));
  for (const { name, shape, offset } of places) {
    const values = tensors.get(name);
    if (values?.length !== size(shape)) throw new Error(`the weights do not fit the network: ${name}`);
    all.set(values, offset / 4);
  }
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
  const tensors = new Map();
  places.forEach(({ name, shape }, place) => {
    const next = random(seed + place);
    const weight = shapes.get(name.replace(/\.bias$/, ".weight"));
    const gauss = normal(next);
    const deviation = Math.sqrt(2 / (size(shape) / shape[1])); // of a convolution
    const bound = weight?.length === 2 && 1 / Math.sqrt(weight[1]); // of a linear layer
    const one = shape.length === 1 && /weight$|running_var$/.test(name) ? 1 : 0;
    const value = bound ? () => bound * (2 * next() - 1) : shape.length > 2 ? () => deviation * gauss() : () => one;
    tensors.set(name, Float32Array.from({ length: size(shape) }, value));
  });
  return lay(tensors, places);
}
