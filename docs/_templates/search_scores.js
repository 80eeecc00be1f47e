// Scores of Sphinx's search: short answers first, generated references last. The other figures are Sphinx's own.
var Scorer = {
  score: ([name, , , , score]) => {
    if (name === "explanation/questions") return score + 12;
    if (/^reference\/(cli|api|python|guarantees|metrics|settings|attacks|words|acts|dialects)$/.test(name)) return score - 8;
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
