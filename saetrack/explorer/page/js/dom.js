// Elements, numbers and tokens as text. Nothing here ever reads text as markup.

const SVG = "http://www.w3.org/2000/svg";

/** An HTML element. `on*` properties are listeners, `class`, `data-*` and `aria-*` attributes. */
export function el(tag, properties = {}, ...children) {
  return fill(document.createElement(tag), properties, children);
}

/** An SVG element; all properties but listeners are attributes. */
export function svg(tag, properties = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), properties, children);
}

function fill(node, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "value" || name === "checked") node[name] = value;
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...present(children));
  return node;
}

/** Replace what an element holds; as with `el`, lists are laid flat and what is null is left out. */
export function refill(node, ...children) {
  node.replaceChildren(...present(children));
  return node;
}

const present = (children) =>
  children.flat(3).filter((child) => child !== null && child !== undefined && child !== false);

/** A span in a colour, such as a dot or a legend's patch. */
export function coloured(kind, colour, properties = {}) {
  const node = el("span", { class: kind, ...properties });
  node.style.background = colour;
  return node;
}

/** A title for the pointer and for those who listen, within an SVG shape. */
export function titled(shape, text) {
  shape.append(svg("title", {}, text));
  return shape;
}

/** A number as people write it, with about three digits. */
export function number(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (Number.isInteger(value) && Math.abs(value) < 1e7) return value.toLocaleString("en");
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e6)) return value.toExponential(1);
  return String(Number(value.toPrecision(3)));
}

/** A share in per cent; small ones keep two digits. */
export function share(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  const percent = 100 * value;
  return `${percent !== 0 && Math.abs(percent) < 0.1 ? Number(percent.toPrecision(2)) : percent.toFixed(1)} %`;
}

export function integer(value) {
  return value.toLocaleString("en");
}

const SIGNS = new Map([
  ["\n", "⏎"],
  ["\t", "⇥"],
  ["\r", "␍"],
  ["\u00a0", "⍽"],
]);

/** A token's text with signs for what cannot be seen; blanks at its ends become dots. */
export function visible(text, { blanks = true } = {}) {
  let shown = "";
  for (const sign of text) {
    const code = sign.codePointAt(0);
    if (SIGNS.has(sign)) shown += SIGNS.get(sign);
    else if (code < 32) shown += String.fromCodePoint(0x2400 + code);
    else if (isUnseen(code)) shown += `‹${code.toString(16).toUpperCase()}›`;
    else shown += sign;
  }
  return blanks ? shown.replace(/^ +| +$/g, (found) => "·".repeat(found.length)) : shown;
}

// Marks that turn the writing's direction or take no room.
function isUnseen(code) {
  return (
    (code >= 0x7f && code < 0xa0) ||
    (code >= 0x200b && code <= 0x200f) ||
    (code >= 0x202a && code <= 0x202e) ||
    (code >= 0x2060 && code <= 0x206f) ||
    code === 0xfeff ||
    code === 0xad
  );
}

/** At most so many signs of a long text. */
export function shortened(text, most = 40) {
  const signs = [...text];
  return signs.length <= most ? text : `${signs.slice(0, most - 1).join("")}…`;
}

/** Tell those who listen. */
export function announce(text) {
  document.getElementById("live").textContent = text;
}

/** Run `work` at most once per frame, with the newest arguments. */
export function perFrame(work) {
  let waiting = null;
  return (...given) => {
    if (waiting === null)
      requestAnimationFrame(() => {
        const newest = waiting;
        waiting = null;
        work(...newest);
      });
    waiting = given;
  };
}
