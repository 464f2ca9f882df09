// Elements from values. Text is only ever set as text: nothing that comes from a corpus is markup.

const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "class") node.setAttribute("class", value);
    else if (name === "text") node.textContent = value;
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "value" || name === "checked" || name === "disabled" || name === "selected")
      node[name] = value;
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return node;
}

/** An element: `el("p", {class: "note"}, "text", child, ...)`; `onclick: f` listens. */
export function el(tag, attributes, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** The same of SVG. */
export function svg(tag, attributes, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

/** Put other children in place of those that a node has. */
export function put(node, ...children) {
  node.replaceChildren(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return node;
}

/** Set a style through the object model, which the policy of the page allows. */
export function style(node, values) {
  for (const [name, value] of Object.entries(values)) node.style.setProperty(name, value);
  return node;
}

/** A labelled select: options are [value, title] or values. */
export function select(label, options, chosen, onChoose, attributes = {}) {
  const node = el(
    "select",
    { "aria-label": label, title: label, ...attributes, onchange: () => onChoose(node.value) },
    options.map((option) => {
      const [value, title] = Array.isArray(option) ? option : [option, option];
      return el("option", { value, text: title, selected: String(value) === String(chosen) });
    }),
  );
  return node;
}

/** A button. */
export function button(text, onclick, attributes = {}) {
  return el("button", { type: "button", onclick, ...attributes }, text);
}

/** A button that is on or off. */
export function toggle(text, isOn, onToggle, attributes = {}) {
  const node = button(
    text,
    () => {
      const now = node.getAttribute("aria-pressed") !== "true";
      node.setAttribute("aria-pressed", now);
      onToggle(now);
    },
    { class: "toggle", "aria-pressed": String(Boolean(isOn)), ...attributes },
  );
  return node;
}

/** Tell screen readers something, once things have settled. */
let saying = 0;
export function say(text) {
  clearTimeout(saying);
  saying = setTimeout(() => {
    document.getElementById("says").textContent = text;
  }, 250);
}

/** Call a function at the next frame, and once only however often it is asked before. */
export function framed(draw) {
  let waiting = false;
  return () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      draw();
    });
  };
}

/** Call a function once nothing has asked for it for a while. */
export function settled(call, wait_ms) {
  let timer = 0;
  return (...given) => {
    clearTimeout(timer);
    timer = setTimeout(() => call(...given), wait_ms);
  };
}
