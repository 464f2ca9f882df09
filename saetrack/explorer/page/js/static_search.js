// Search where no server answers: the site's own index, read by the rule of the server.

/** As the server's answer: features by their commonest tokens, and by the contexts that the site holds. */
export async function searchSite(data, index, query, limit, offset = 0) {
  const found = { q: query, tokens: [], contexts: [], truncated: false, total: { tokens: 0, contexts: 0 } };
  if (!query.trim()) return found;
  const texts = (await data.vocabulary()).map((text) => text.toLowerCase());
  const tokens = await byToken(data, texts, query.trim().toLowerCase());
  const contexts = byContext(index, texts, query.toLowerCase());
  const end = offset + limit;
  found.truncated = tokens.length > end || contexts.length > end;
  found.total = { tokens: tokens.length, contexts: contexts.length };
  found.tokens = tokens.slice(offset, end);
  found.contexts = contexts
    .slice(offset, end)
    .map(({ token, ...hit }) => ({ ...hit, ...placeOf(index, token) }));
  return found;
}

/** Features by their commonest token at each link: the very word first, at most links first. */
async function byToken(data, texts, wanted) {
  const exact = texts.map((text) => text.trim() === wanted);
  const holding = texts.map((text) => text.includes(wanted));
  const of = [new Map(), new Map()]; // feature: its links and its last token, by each rule
  for (let link = 0; link < data.manifest.links.length; link++) {
    const tops = await data.column(link, "top_token");
    for (let feature = 0; feature < tops.length; feature++) {
      const token = tops[feature];
      if (token < 0 || (data.kept && !data.kept.has(feature))) continue;
      if (exact[token]) note(of[0], feature, token, link);
      if (holding[token]) note(of[1], feature, token, link);
    }
  }
  for (const feature of of[0].keys()) of[1].delete(feature);
  const ordered = (hits) =>
    [...hits.values()].sort((a, b) => b.links.length - a.links.length || a.feature - b.feature);
  return of
    .flatMap(ordered)
    .map(({ feature, token, links }) => ({ feature, text: data.vocabularyNow[token], links }));
}

function note(hits, feature, token, link) {
  const hit = hits.get(feature);
  if (!hit) hits.set(feature, { feature, token, links: [link] });
  else {
    hit.links.push(link);
    hit.token = token;
  }
}

/** The first context of each feature whose own token is part of the query. */
function byContext(index, texts, wanted) {
  const covered = coveredTokens(index, texts, wanted);
  const { context_tokens, context_features, context_links, context_groups } = index;
  const hits = new Map();
  for (let at = 0; at < context_tokens.length; at++) {
    const feature = context_features[at];
    if (!covered[context_tokens[at]] || hits.has(feature)) continue;
    hits.set(feature, {
      feature,
      link: context_links[at],
      group: context_groups[at],
      token: context_tokens[at],
    });
  }
  return [...hits.values()];
}

/** 1 for each token of the stretches that a place of the query touches. */
function coveredTokens({ tokens, stretch_begins }, texts, wanted) {
  const begins = new Set(stretch_begins);
  const starts = new Uint32Array(tokens.length + 1);
  const parts = [];
  let length = 0;
  tokens.forEach((token, at) => {
    const text = begins.has(at) && at ? `\0${texts[token]}` : texts[token];
    starts[at] = length + (text.length - texts[token].length);
    parts.push(text);
    length += text.length;
  });
  starts[tokens.length] = length;
  const whole = parts.join("");
  const covered = new Uint8Array(tokens.length);
  let token = 0;
  for (let from = whole.indexOf(wanted); from >= 0; from = whole.indexOf(wanted, from + 1)) {
    while (token + 1 < tokens.length && starts[token + 1] <= from) token++;
    for (let at = token; at < tokens.length && starts[at] < from + wanted.length; at++) covered[at] = 1;
  }
  return covered;
}

const [BEFORE, AFTER] = [12, 8]; // tokens around a place, as far as its stretch has them

/** Row and position of a token of the index, and the tokens around it. */
function placeOf({ tokens, stretch_begins, stretch_rows, stretch_positions }, token) {
  let stretch = 0;
  let above = stretch_begins.length;
  while (above - stretch > 1) {
    const middle = (stretch + above) >> 1;
    if (stretch_begins[middle] <= token) stretch = middle;
    else above = middle;
  }
  const [begin, end] = [stretch_begins[stretch], stretch_begins[stretch + 1] ?? tokens.length];
  const position = stretch_positions[stretch] + token - begin;
  const from = Math.max(begin, token - BEFORE);
  return {
    row: stretch_rows[stretch],
    position,
    first: position - (token - from),
    ids: [...tokens.slice(from, Math.min(end, token + AFTER + 1))],
  };
}
