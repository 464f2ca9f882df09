// What the keys do, and what the words mean.

import { el } from "./dom.js";

const KEYS = [
  ["← →", "step before, next step"],
  ["space", "play through the steps"],
  ["j k", "next feature, feature before"],
  ["b", "two steps side by side"],
  ["/", "search"],
  ["?", "this help"],
  ["Esc", "leave a field, close this"],
];
const WORDS = [
  [
    "chain",
    "sparse autoencoders (SAEs) over the training checkpoints of a language model (LM), each begun from the one before.",
  ],
  ["link", "one SAE of a chain, over the checkpoint of one LM step."],
  [
    "feature",
    "one direction of the SAE's dictionary. Within a chain it keeps its index, which does not prove that it keeps its meaning: look at the cosines beside their control.",
  ],
  [
    "label",
    "what the strongest contexts have in common: one token, forms of one word (weak concept), contexts alike beyond chance (concept), or none of these (noise).",
  ],
  [
    "control",
    "what the same measure gives where there is nothing to find, such as a chain over an LM that stands still.",
  ],
  ["collapsed", "a checkpoint whose residuals are nearly all alike, so that no SAE can say much there."],
];

export function openHelp() {
  const dialog = el(
    "dialog",
    { "aria-label": "Keys and help", onclose: () => dialog.remove() },
    el("h2", {}, "Keys"),
    el(
      "dl",
      { class: "keys" },
      KEYS.map(([key, text]) => [el("dt", {}, el("kbd", {}, key)), el("dd", {}, text)]),
    ),
    el("h2", {}, "Words"),
    el(
      "dl",
      {},
      WORDS.map(([word, text]) => [el("dt", {}, word), el("dd", {}, text)]),
    ),
    el("form", { method: "dialog" }, el("button", { class: "primary" }, "Close")),
  );
  document.body.append(dialog);
  dialog.showModal();
}
