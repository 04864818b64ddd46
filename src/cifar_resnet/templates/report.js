const gallery = document.getElementById("gallery");
const mistakes = [...gallery.children];
const confused = JSON.parse(gallery.dataset.confused); // [true class, predicted class, number of test images], also those not on the page

const orders = {
  confident: (a, b) => b.dataset.confidence - a.dataset.confidence,
  unsure: (a, b) => a.dataset.confidence - b.dataset.confidence,
  unlikely: (a, b) => a.dataset.trueProbability - b.dataset.trueProbability,
  index: (a, b) => a.dataset.index - b.dataset.index,
};
let sortedBy = "confident";

function show(choices) {
  const [trueClass, predicted, order] = ["true", "predicted", "sort"].map((name) => choices.get(name));
  const matches = (one, other) => (!trueClass || one === trueClass) && (!predicted || other === predicted);
  let shown = 0;
  for (const mistake of mistakes) {
    mistake.hidden = !matches(mistake.dataset.true, mistake.dataset.predicted);
    shown += !mistake.hidden;
  }
  if (order !== sortedBy && orders[order]) {
    gallery.append(...mistakes.sort(orders[order]));
    sortedBy = order;
  }
  const total = confused.reduce((sum, [one, other, count]) => sum + (matches(one, other) ? count : 0), 0);
  const [shownText, totalText] = [shown, total].map((number) => number.toLocaleString("en"));
  document.getElementById("count").value = shown === total
    ? `${totalText} mistake${total === 1 ? "" : "s"}` : `${shownText} of ${totalText} are on this page`;
  document.getElementById("clear").hidden = !(trueClass || predicted);
  document.getElementById("empty").hidden = shown > 0;
}

keepInAddress(document.getElementById("filters"), show);
document.querySelectorAll("table[role=grid]").forEach(moveByArrows);
switchThemeBy(document.getElementById("theme"));
