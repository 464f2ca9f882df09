// The window that asks for a list's name.

import { button, el } from "./dom.js";
import { listNames } from "./lists.js";

/** Ask for a list's name, an old one or a new one. */
export function askForList(what, onName) {
  const names = listNames();
  const field = el("input", {
    type: "text",
    name: "list",
    required: true,
    list: "list-names",
    value: names[0] ?? "My features",
    "aria-label": "Name of the list",
    maxlength: 80,
    autocomplete: "off",
  });
  const dialog = el(
    "dialog",
    { class: "help", "aria-labelledby": "ask-title" },
    el(
      "form",
      { method: "dialog" },
      el("h2", { id: "ask-title", text: `Keep ${what} in a list` }),
      el("p", {
        class: "muted",
        text: "A list of this name gets them too; otherwise it is made. Lists are kept in this browser.",
      }),
      field,
      el(
        "datalist",
        { id: "list-names" },
        names.map((name) => el("option", { value: name })),
      ),
      el(
        "p",
        { class: "line" },
        el("button", { class: "primary", value: "keep" }, "Keep"),
        button("Cancel", () => dialog.close()),
      ),
    ),
  );
  dialog.addEventListener("close", () => {
    if (dialog.returnValue === "keep" && field.value.trim()) onName(field.value.trim());
    dialog.remove();
  });
  document.body.append(dialog);
  dialog.showModal();
  field.select();
}
