// Points of the map, written into an image's pixels.

import { pixel } from "./palette.js";

/** Smooth discs, for some thousands of points. */
export function discs(image, radius) {
  const { data, width, height } = image;
  const mask = discMask(radius);
  return (x, y, [red, green, blue]) => {
    for (let at = 0; at < mask.length; at += 3) {
      const px = x + mask[at];
      const py = y + mask[at + 1];
      if (px < 0 || py < 0 || px >= width || py >= height) continue;
      const to = 4 * (py * width + px);
      const cover = mask[at + 2] * 0.86;
      const below = (data[to + 3] / 255) * (1 - cover);
      const alpha = cover + below;
      data[to] = (red * cover + data[to] * below) / alpha;
      data[to + 1] = (green * cover + data[to + 1] * below) / alpha;
      data[to + 2] = (blue * cover + data[to + 2] * below) / alpha;
      data[to + 3] = 255 * alpha;
    }
  };
}

/** How much of each pixel about a point a disc covers: dx, dy, share, ... */
function discMask(radius) {
  const reach = Math.ceil(radius);
  const parts = [];
  for (let dy = -reach; dy <= reach; dy++) {
    for (let dx = -reach; dx <= reach; dx++) {
      const cover = Math.min(1, Math.max(0, radius + 0.5 - Math.hypot(dx, dy)));
      if (cover > 0) parts.push(dx, dy, cover);
    }
  }
  return parts;
}

/** Plain dots, for tens of thousands of points. */
export function dots(image, radius) {
  const { width, height } = image;
  const words = new Uint32Array(image.data.buffer);
  const offsets = [];
  const reach = Math.floor(radius);
  for (let dy = -reach; dy <= reach; dy++)
    for (let dx = -reach; dx <= reach; dx++) if (Math.hypot(dx, dy) <= radius) offsets.push(dy * width + dx);
  const known = new Map(); // one array for each colour
  return (x, y, colour) => {
    let word = known.get(colour);
    if (word === undefined) known.set(colour, (word = pixel(colour)));
    if (x < reach || y < reach || x >= width - reach || y >= height - reach) return;
    const at = y * width + x;
    for (let number = 0; number < offsets.length; number++) words[at + offsets[number]] = word;
  };
}
