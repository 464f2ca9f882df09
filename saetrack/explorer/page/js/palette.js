// Colours of the theme for canvases, as numbers that an image's pixels take.

const SEQUENTIAL = ["--low", "--high"];
const CATEGORIES = [
  "#0072b2",
  "#e69f00",
  "#009e73",
  "#cc79a7",
  "#56b4e9",
  "#d55e00",
  "#b8a900",
  "#7a4fb0",
  "#8b6b4a",
  "#5f9ea0",
  "#767676",
];

const context = document.createElement("canvas").getContext("2d", { willReadFrequently: true });

/** Any colour of a style sheet as [red, green, blue]. */
function rgb(colour) {
  context.clearRect(0, 0, 1, 1);
  context.fillStyle = colour;
  context.fillRect(0, 0, 1, 1);
  return [...context.getImageData(0, 0, 1, 1).data.slice(0, 3)];
}

// Asking for a style is slow, and each step of the slider would: kept until the theme changes.
const known = new Map();
addEventListener("themechange", () => known.clear());

/** One variable of the theme as [red, green, blue]; null if there is none. */
export function themeColour(name) {
  if (!known.has(name)) {
    const value = getComputedStyle(document.documentElement).getPropertyValue(name).trim();
    known.set(name, value ? rgb(value) : null);
  }
  return known.get(name);
}

/** The colours of labels, by their index. */
export const labelColours = (labels) =>
  labels.map((label) => themeColour(`--l-${label}`) ?? themeColour("--faint"));

/** Colours of other categories; as many as there are categories. */
export const categoryColours = (names) => names.map((_, at) => rgb(CATEGORIES[at % CATEGORIES.length]));

/** 256 colours from low to high that differ in lightness first: any colour vision can order them. */
export function sequential() {
  if (!known.has("sequential")) known.set("sequential", gradient());
  return known.get("sequential");
}

function gradient() {
  const [low, high] = SEQUENTIAL.map(themeColour);
  return Array.from({ length: 256 }, (_, at) =>
    low.map((value, channel) => Math.round(value + ((high[channel] - value) * at) / 255)),
  );
}

/** A colour as a pixel of an image. */
const isLittle = new Uint8Array(new Uint32Array([1]).buffer)[0] === 1;
export const pixel = ([red, green, blue]) =>
  (isLittle
    ? (255 << 24) | (blue << 16) | (green << 8) | red
    : (red << 24) | (green << 16) | (blue << 8) | 255) >>> 0;

export const css = ([red, green, blue]) => `rgb(${red}, ${green}, ${blue})`;
