// Colours of the theme for canvases, as numbers that an image's pixels take.

const SEQUENTIAL = ["--low", "--high"];
const CATEGORIES = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#b8a900", "#7a4fb0", "#8b6b4a", "#5f9ea0", "#767676"];

const context = document.createElement("canvas").getContext("2d", { willReadFrequently: true });

/** Any colour of a style sheet as [red, green, blue]. */
function rgb(colour) {
  context.clearRect(0, 0, 1, 1);
  context.fillStyle = colour;
  context.fillRect(0, 0, 1, 1);
  return [...context.getImageData(0, 0, 1, 1).data.slice(0, 3)];
}

const variable = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** One variable of the theme as [red, green, blue]. */
export const themeColour = (name) => rgb(variable(name));

/** The colours of labels, by their index. */
export const labelColours = (labels) => labels.map((label) => rgb(variable(`--l-${label}`) || variable("--faint")));

/** Colours of other categories; as many as there are categories. */
export const categoryColours = (names) => names.map((_, at) => rgb(CATEGORIES[at % CATEGORIES.length]));

/** 256 colours from low to high that differ in lightness first: any colour vision can order them. */
export function sequential() {
  const [low, high] = SEQUENTIAL.map(themeColour);
  return Array.from({ length: 256 }, (_, at) => low.map((value, channel) => Math.round(value + ((high[channel] - value) * at) / 255)));
}

export const css = ([red, green, blue]) => `rgb(${red}, ${green}, ${blue})`;
