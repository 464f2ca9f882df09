// Light or dark: as the system has it, or as was chosen here.

import { el } from "./dom.js";

const KEY = "saetrack.theme";
const MODES = ["system", "light", "dark"];
const SIGNS = { system: "◐", light: "☀", dark: "☾" };

function stored() {
  try {
    return MODES.includes(localStorage.getItem(KEY)) ? localStorage.getItem(KEY) : "system";
  } catch {
    return "system";
  }
}

function apply(mode) {
  if (mode === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = mode;
}

export function themeButton() {
  let mode = stored();
  apply(mode);
  const button = el("button", {
    type: "button",
    class: "icon",
    onclick: () => {
      mode = MODES[(MODES.indexOf(mode) + 1) % MODES.length];
      localStorage.setItem(KEY, mode);
      apply(mode);
      say();
    },
  });
  const say = () => {
    button.textContent = SIGNS[mode];
    button.title = `Colours: ${mode}`;
    button.setAttribute("aria-label", `Colours: ${mode}. Change them`);
  };
  say();
  return button;
}
