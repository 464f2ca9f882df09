// Colours that differ in lightness too, so that any colour vision tells them apart. As in the figures.

export const LABELS = {
  token: ["#0072B2", "token-level"],
  weak_concept: ["#E8998D", "weak concept-level"],
  concept: ["#9B1B30", "concept-level"],
  noise: ["#8a8a8a", "noise"],
  insufficient: ["#cfcfcf", "too few contexts"],
  ultra_low: ["#b3b3b3", "ultra-low density"],
  dead: ["#404040", "dead"],
};

const OTHERS = [
  "#0072B2",
  "#E69F00",
  "#009E73",
  "#9B1B30",
  "#CC79A7",
  "#56B4E9",
  "#F0E442",
  "#D55E00",
  "#8a8a8a",
  "#404040",
  "#cfcfcf",
];

/** Colour of a label by its name. */
export const labelColour = (name) => (LABELS[name] ?? ["#8a8a8a"])[0];
export const labelName = (name) => (LABELS[name] ?? ["", name.replaceAll("_", " ")])[1];

/** Colours for things without an order. */
export const categorical = (index) => OTHERS[index % OTHERS.length];

// Viridis, in steps: dark violet to yellow.
const VIRIDIS = [
  "#440154",
  "#482878",
  "#3e4a89",
  "#31688e",
  "#26828e",
  "#1f9e89",
  "#35b779",
  "#6ece58",
  "#b5de2b",
  "#fde725",
];

/** The colour of a share from 0 to 1, as [red, green, blue]. */
export function sequential(share) {
  const at = Math.min(Math.max(share, 0), 1) * (VIRIDIS.length - 1);
  const below = Math.min(Math.floor(at), VIRIDIS.length - 2);
  const low = rgb(VIRIDIS[below]);
  const high = rgb(VIRIDIS[below + 1]);
  return low.map((value, i) => Math.round(value + (high[i] - value) * (at - below)));
}

export function rgb(hex) {
  const number = parseInt(hex.slice(1), 16);
  return [number >> 16, (number >> 8) & 255, number & 255];
}

export const css = ([red, green, blue]) => `rgb(${red} ${green} ${blue})`;
