"use strict";

const gallery = document.getElementById("gallery");
const mistakes = [...gallery.children];
const filters = document.getElementById("filters");
const pairButtons = [...document.querySelectorAll("button[data-true]")];

const orders = {
  confident: (a, b) => b.dataset.confidence - a.dataset.confidence,
  unsure: (a, b) => a.dataset.confidence - b.dataset.confidence,
  unlikely: (a, b) => a.dataset.trueProbability - b.dataset.trueProbability,
  index: (a, b) => a.dataset.index - b.dataset.index,
};

function filter() {
  const [trueClass, predicted] = [filters.elements.true.value, filters.elements.predicted.value];
  let shown = 0;
  for (const mistake of mistakes) {
    const matches = (!trueClass || mistake.dataset.true === trueClass) && (!predicted || mistake.dataset.predicted === predicted);
    mistake.hidden = !matches;
    shown += matches;
  }
  for (const button of pairButtons) {
    button.setAttribute("aria-pressed", button.dataset.true === trueClass && button.dataset.predicted === predicted);
  }
  const filtered = Boolean(trueClass || predicted);
  document.getElementById("count").value = `${shown.toLocaleString("en")} shown` + (filtered ? ` of ${mistakes.length.toLocaleString("en")}` : "");
  document.getElementById("clear").hidden = !filtered;
  document.getElementById("empty").hidden = shown > 0;
}

function choose(trueClass, predicted) {
  filters.elements.true.value = trueClass;
  filters.elements.predicted.value = predicted;
  filter();
}

for (const button of pairButtons) {
  button.addEventListener("click", () => {
    choose(button.dataset.true, button.dataset.predicted);
    const title = document.getElementById("mistakes-title");
    title.focus({ preventScroll: true });
    title.scrollIntoView();
  });
}
filters.elements.true.addEventListener("change", filter);
filters.elements.predicted.addEventListener("change", filter);
filters.elements.order.addEventListener("change", () => gallery.append(...mistakes.sort(orders[filters.elements.order.value])));
document.getElementById("clear").addEventListener("click", () => {
  choose("", "");
  filters.elements.true.focus(); // the button is gone
});

const theme = document.getElementById("theme");
let dark = matchMedia("(prefers-color-scheme: dark)").matches;
function nameTheme() {
  theme.textContent = dark ? "Light" : "Dark";
}
theme.addEventListener("click", () => {
  dark = !dark;
  document.documentElement.style.colorScheme = dark ? "dark" : "light";
  nameTheme();
});
nameTheme();
filters.reset(); // browsers keep a form's choices over a reload
