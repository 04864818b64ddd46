"use strict";
// What the pages share: a form whose choices are the page's address, a table with arrow keys, a theme button.
// What only works by script has the attributes data-script and hidden.
for (const one of document.querySelectorAll("[data-script]")) one.hidden = false;

// A form's choices become the address, such as #true=cat&order=unsure: it can be sent, and Back returns. Without choices it
// is the id of the form's section. A link with data-choices="true=cat&predicted=dog" makes these choices. `show` is
// called with all choices, a Map of names to values, whenever they change.
function keepInAddress(form, show) {
  const section = form.closest("section");
  const links = [...document.querySelectorAll("a[data-choices]")];
  const choicesOf = (link) => [...new URLSearchParams(link.dataset.choices)];
  form.reset(); // browsers keep a form's choices over a reload
  const defaults = new Map(new FormData(form));

  function address() {
    const chosen = [...new FormData(form)].filter(([name, value]) => value !== defaults.get(name));
    return "#" + (chosen.length ? new URLSearchParams(chosen) : section.id);
  }
  function read() {
    const chosen = [...new URLSearchParams(location.hash.slice(1))].filter(([name]) => defaults.has(name));
    const elsewhere = location.hash && location.hash !== `#${section.id}` && !chosen.length;
    if (!elsewhere) choose(chosen); // else it is the address of another section, which changes no choice
    return chosen.length > 0;
  }
  function choose(chosen) {
    form.reset();
    for (const [name, value] of chosen) {
      const field = form.elements[name];
      field.value = value;
      if (field.value !== value) field.add?.(new Option(value, value, false, true)); // so that the page says what it looked for
    }
    const choices = new Map(new FormData(form));
    for (const link of links) {
      link.setAttribute("aria-current", choicesOf(link).every(([name, value]) => choices.get(name) === value));
    }
    show(choices);
  }
  function goToSection() {
    section.querySelector("h2").focus({ preventScroll: true });
    section.scrollIntoView();
  }
  for (const link of links) {
    link.href = "#" + link.dataset.choices;
    link.addEventListener("click", (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey) return; // another tab or window
      event.preventDefault();
      for (const [name, value] of choicesOf(link)) form.elements[name].value = value; // the others stay
      location.hash = address();
      read();
      goToSection();
    });
  }
  form.addEventListener("change", () => { location.hash = address(); });
  form.addEventListener("submit", (event) => event.preventDefault());
  addEventListener("hashchange", read);
  choose([]);
  if (read()) goToSection();
}

// One tab stop for all links of a table; arrow keys, Home and End move among them (role="grid" on the table).
function moveByArrows(table) {
  const rows = [...table.rows].map((row) => [...row.cells].map((cell) => cell.querySelector("a[href]")));
  const links = rows.flat().filter(Boolean);
  const stopAt = (link) => links.forEach((one) => { one.tabIndex = one === link ? 0 : -1; });
  stopAt(links[0]);
  table.addEventListener("focusin", (event) => { if (links.includes(event.target)) stopAt(event.target); });
  table.addEventListener("keydown", (event) => {
    const row = event.target.closest("tr")?.rowIndex, column = event.target.closest("td")?.cellIndex;
    if (column === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
    const inRow = rows[row], inColumn = rows.map((cells) => cells[column]);
    const next = {
      ArrowRight: () => inRow.slice(column + 1).find(Boolean),
      ArrowLeft: () => inRow.slice(0, column).findLast(Boolean),
      ArrowDown: () => inColumn.slice(row + 1).find(Boolean),
      ArrowUp: () => inColumn.slice(0, row).findLast(Boolean),
      Home: () => inRow.find(Boolean),
      End: () => inRow.findLast(Boolean),
    }[event.key]?.();
    if (next) { event.preventDefault(); next.focus(); }
  });
}

// Shows the items of a gallery that fit a form's choices, and counts the test images that do, also those not on the page.
// An item's data-facts says what it is, such as {"true": "cat"}, where a value may be a list of several; the gallery's
// data-counts holds [facts, number of images] of all. The choice `sort` names one of `orders`, the first at the start.
function filterGallery(form, gallery, noun, orders = {}) {
  const items = [...gallery.children].map((element) => ({ element, facts: JSON.parse(element.dataset.facts) }));
  const counts = JSON.parse(gallery.dataset.counts);
  let sortedBy = Object.keys(orders)[0];

  keepInAddress(form, (choices) => {
    const chosen = [...choices].filter(([name, value]) => value && name !== "sort"), order = choices.get("sort");
    const matches = (facts) => chosen.every(([name, value]) => [facts[name]].flat().includes(value));
    let shown = 0;
    for (const { element, facts } of items) {
      element.hidden = !matches(facts);
      shown += !element.hidden;
    }
    if (order !== sortedBy && orders[order]) {
      gallery.append(...items.map(({ element }) => element).sort(orders[order]));
      sortedBy = order;
    }
    const total = counts.reduce((sum, [facts, count]) => sum + (matches(facts) ? count : 0), 0);
    const [shownText, totalText] = [shown, total].map((number) => number.toLocaleString("en"));
    document.getElementById("count").value = shown === total
      ? `${totalText} ${noun}${total === 1 ? "" : "s"}` : `${shownText} of ${totalText} are on this page`;
    document.getElementById("clear").hidden = !chosen.length;
    document.getElementById("empty").hidden = shown > 0;
  });
}

function switchThemeBy(button) {
  let dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const name = () => { button.textContent = dark ? "Light" : "Dark"; };
  button.addEventListener("click", () => {
    dark = !dark;
    document.documentElement.style.colorScheme = dark ? "dark" : "light";
    name();
  });
  name();
}
