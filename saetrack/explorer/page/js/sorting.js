// Features in order of a column: numbers only, so that 65,536 are in order within some milliseconds.

const floats = new Float32Array(1);
const bits = new Uint32Array(floats.buffer);
const LAST = 0xffffffff;
const ROOM = 2 ** 21; // features at most

/** A number whose order as a whole number is that of the value. */
function rankOf(value) {
  floats[0] = value;
  return bits[0] & 0x80000000 ? ~bits[0] >>> 0 : (bits[0] | 0x80000000) >>> 0;
}

/** Features by their values; what has no value comes last, either way. Equal ones stay by index. */
export function sorted(features, values, descending) {
  const keys = new Float64Array(features.length);
  for (let at = 0; at < features.length; at++) {
    const value = values[features[at]];
    const rank = Number.isNaN(value) ? LAST : descending ? LAST - 1 - rankOf(value) : rankOf(value);
    keys[at] = rank * ROOM + features[at];
  }
  keys.sort();
  const order = new Uint32Array(features.length);
  for (let at = 0; at < keys.length; at++) order[at] = keys[at] % ROOM;
  return order;
}

/** Values at two shares of those that there are, for the ends of a scale. */
export function quantiles(values, shares) {
  const known = new Float32Array(values).filter(Number.isFinite).sort();
  return known.length ? shares.map((share) => known[Math.round(share * (known.length - 1))]) : null;
}
