/* Files of the book's own folder: fetched once, with progress; a lost connection goes on where it broke. */

const ATTEMPTS = 4;
const WAIT = 700; // milliseconds before the second attempt, twice as long before each further one

export class Lost extends Error {}

/** Fetches by name below `base`; `sizes` are bytes by name, of the file as it is stored; `report(name, bytes)` hears. What came is
    kept packed, as a Blob: the browser holds it, not the page's own memory. */
export function library(base, sizes, report, wait = WAIT) {
  const whole = new Map(); // name -> Blob
  const there = new Set(); // names of those that came
  const begun = new Map(); // name -> {bytes, parts}: of a download that broke

  async function attempt(name) {
    const got = begun.get(name) ?? { bytes: 0, parts: [] };
    begun.set(name, got);
    const headers = got.bytes ? { Range: `bytes=${got.bytes}-` } : {};
    const answer = await fetch(new URL(name, base), { headers });
    if (!answer.ok) throw new Lost(`${name}: the host answers ${answer.status}`);
    if (answer.status !== 206) Object.assign(got, { bytes: 0, parts: [] }); // all of it comes again
    const reader = answer.body.getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      got.parts.push(value);
      got.bytes += value.length;
      report(name, got.bytes);
    }
    const packed = answer.headers.get("content-encoding"); // by the host: these are not the bytes that the file has
    if (!packed && sizes[name] !== undefined && got.bytes !== sizes[name]) {
      if (got.bytes > sizes[name]) begun.delete(name);
      throw new Lost(`${name}: ${got.bytes} of ${sizes[name]} bytes came`);
    }
    begun.delete(name);
    return new Blob(got.parts);
  }

  async function fetched(name) {
    for (let tried = 1; ; tried++) {
      try {
        return await attempt(name);
      } catch (error) {
        if (tried === ATTEMPTS) throw error instanceof Lost ? error : new Lost(`${name}: ${error.message}`);
        await new Promise((resolve) => setTimeout(resolve, wait * 2 ** (tried - 1)));
      }
    }
  }

  return {
    has: (name) => there.has(name),
    /** Sees to it that a file is there. */
    async fetch(name) {
      if (!whole.has(name)) {
        const coming = fetched(name);
        whole.set(name, coming);
        coming.then(
          () => there.add(name),
          () => whole.delete(name),
        );
      }
      return whole.get(name);
    },
    /** The content of a file, unpacked, an ArrayBuffer of its own each time. */
    async load(name) {
      return unpacked(await this.fetch(name));
    },
  };
}

async function unpacked(blob) {
  const [first, second] = new Uint8Array(await blob.slice(0, 2).arrayBuffer());
  const packed = first === 0x1f && second === 0x8b; // some hosts unpack .gz
  return (packed ? new Response(blob.stream().pipeThrough(new DecompressionStream("gzip"))) : blob).arrayBuffer();
}
