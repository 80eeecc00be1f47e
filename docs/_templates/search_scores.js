// Scores of Sphinx's search: pages with the words of the search first, then short answers; generated references last.
// The other figures are Sphinx's own. SEARCH_WORDS is search_words.toml, which conf.py writes into the page of the search.
var Scorer = {
  score: ([name, , , , score]) => {
    const asked = (new URLSearchParams(window.location.search).get("q") || "").toLowerCase().split(/\W+/);
    const known = (SEARCH_WORDS[name] || "").split(" ");
    const told = new Set(asked.filter((word) => known.includes(word))).size;
    if (told) score += 8 * told;
    else if (/^reference\/(cli|api|python|guarantees|metrics|settings|attacks|words|acts|dialects)$/.test(name)) score -= 8;
    if (name === "explanation/questions") return score + 12;
    return /^(tutorial|how-to)\//.test(name) ? score + 4 : score;
  },
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};
