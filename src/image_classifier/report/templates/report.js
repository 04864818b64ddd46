filterGallery(document.getElementById("filters"), document.getElementById("gallery"), "mistake", {
  confident: (a, b) => b.dataset.confidence - a.dataset.confidence,
  unsure: (a, b) => a.dataset.confidence - b.dataset.confidence,
  unlikely: (a, b) => a.dataset.trueProbability - b.dataset.trueProbability,
  index: (a, b) => a.dataset.index - b.dataset.index,
});
