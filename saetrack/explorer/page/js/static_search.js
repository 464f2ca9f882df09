// Search where no server answers: by the commonest token of each feature at each link.

/** As the server's answer, without contexts, which a static site cannot search. */
export async function searchTokens(data, query, limit) {
  const wanted = query.trim().toLowerCase();
  const found = { q: query, tokens: [], contexts: [], truncated: false };
  if (!wanted) return found;
  const texts = (await data.vocabulary()).map((text) => text.toLowerCase());
  const rank = Int8Array.from(texts, (text) => (text.trim() === wanted ? 2 : text.includes(wanted) ? 1 : 0));
  const hits = new Map();
  for (let link = 0; link < data.manifest.links.length; link++) {
    const tops = await data.column(link, "top_token");
    for (let feature = 0; feature < tops.length; feature++) {
      const token = tops[feature];
      if (token < 0 || !rank[token] || (data.kept && !data.kept.has(feature))) continue;
      const hit = hits.get(feature);
      if (!hit) hits.set(feature, { feature, token, links: [link] });
      else {
        hit.links.push(link);
        if (rank[token] > rank[hit.token]) hit.token = token;
      }
    }
  }
  const order = [...hits.values()].sort(
    (a, b) => rank[b.token] - rank[a.token] || b.links.length - a.links.length || a.feature - b.feature,
  );
  found.truncated = order.length > limit;
  found.tokens = order.slice(0, limit).map(({ feature, token, links }) => ({ feature, text: data.vocabularyNow[token], links }));
  return found;
}
