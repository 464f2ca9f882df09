// Which point is nearest, and which lie within a lasso.

/** Points in squares, so that few are looked at. */
export class PointGrid {
  constructor(pixels, width, height, square) {
    Object.assign(this, {
      pixels,
      square,
      columns: Math.ceil(width / square),
      rows: Math.ceil(height / square),
    });
    this.squares = new Map();
    for (let at = 0; at < pixels.length; at += 2) {
      const key = this.key(pixels[at], pixels[at + 1]);
      if (key < 0) continue;
      const there = this.squares.get(key);
      if (there) there.push(at / 2);
      else this.squares.set(key, [at / 2]);
    }
  }

  key(x, y) {
    const column = Math.floor(x / this.square);
    const row = Math.floor(y / this.square);
    const inside = column >= 0 && row >= 0 && column < this.columns && row < this.rows;
    return inside ? row * this.columns + column : -1;
  }

  /** The nearest point that a mask shows, or -1 if none is within reach. */
  nearest([x, y], reach, mask) {
    let best = -1;
    let least = reach;
    for (let dy = -1; dy <= 1; dy++) {
      for (let dx = -1; dx <= 1; dx++) {
        for (const point of this.squares.get(this.key(x + dx * this.square, y + dy * this.square)) ?? []) {
          const far = Math.hypot(this.pixels[2 * point] - x, this.pixels[2 * point + 1] - y);
          if (mask[point] && far < least) [best, least] = [point, far];
        }
      }
    }
    return best;
  }
}

/** Whether a point lies within a polygon: a ray from it crosses an odd number of sides. */
export function insidePolygon(polygon, x, y) {
  let inside = false;
  for (let at = 0, before = polygon.length - 1; at < polygon.length; before = at++) {
    const [x1, y1] = polygon[at];
    const [x2, y2] = polygon[before];
    if (y1 > y !== y2 > y && x < ((x2 - x1) * (y - y1)) / (y2 - y1) + x1) inside = !inside;
  }
  return inside;
}
