// The order in which features are read with j and k: that of the table that was seen last.

import { address } from "./address.js";

let last = { chain: null, order: null, back: null };

/** Keep the table's order and the address that leads back to it. */
export function remember(chain, order, state) {
  last = { chain, order, back: address(state.parts, Object.fromEntries(state.params)) };
}

/** The feature some places further, its place and how many there are. */
export function further(data, feature, by) {
  const order = last.chain === data.name && last.order?.length ? last.order : null;
  const at = order ? order.indexOf(feature) : -1;
  if (at >= 0)
    return {
      feature: order[at + by] ?? null,
      at,
      of: order.length,
      filtered: order.length < data.manifest.d_sae,
    };
  const { d_sae } = data.manifest;
  const all = data.kept ? [...data.kept] : null; // of a static site that holds some
  if (all)
    return {
      feature: all[all.indexOf(feature) + by] ?? null,
      at: all.indexOf(feature),
      of: all.length,
      filtered: false,
    };
  const next = feature + by;
  return { feature: next >= 0 && next < d_sae ? next : null, at: feature, of: d_sae, filtered: false };
}

/** The address of the chain as it was left. */
export const backTo = (data) => (last.chain === data.name && last.back ? last.back : address([data.name]));
