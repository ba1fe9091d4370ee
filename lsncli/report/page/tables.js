// Classes, failures and provenance.

const FEW = 20;
const classSort = { key: "ood", down: true };
let allClasses = false;

// One line a class that was predicted, or is the truth of some image.
function classLines() {
  const lines = page.classes.map((name, label) => ({ label, name, all: 0, ood: 0, scores: 0, known: 0, kept: 0, right: 0, wrong: new Map() }));
  for (const set of chosenSets()) {
    for (let row = 0; row < set.scores.length; row++) {
      const ood = isOod(set.scores[row]);
      const line = lines[set.predicted[row]];
      line.all++;
      line.ood += ood;
      line.scores += set.scores[row];
      const label = set.labels ? set.labels[row] : -1;
      if (label < 0) continue;
      lines[label].known++;
      lines[label].kept += !ood;
      if (label === set.predicted[row]) lines[label].right++;
      else lines[label].wrong.set(set.predicted[row], (lines[label].wrong.get(set.predicted[row]) || 0) + 1);
    }
  }
  return lines.filter((line) => line.all || line.known);
}

const COLUMNS = [
  { key: "name", title: "Class", value: (line) => line.name },
  { key: "all", title: "Images", value: (line) => line.all },
  { key: "ood", title: "OOD", value: (line) => line.ood },
  { key: "share", title: "OOD share", value: (line) => (line.all ? line.ood / line.all : -1) },
  { key: "mean", title: "Mean score", value: (line) => (line.all ? line.scores / line.all : -Infinity) },
];
const KNOWN = [
  { key: "known", title: "Known", value: (line) => line.known },
  { key: "right", title: "Named right", value: (line) => (line.known ? line.right / line.known : -1) },
  { key: "kept", title: "Kept", value: (line) => (line.known ? line.kept / line.known : -1) },
  { key: "wrong", title: "Most often taken for", value: (line) => Math.max(0, ...line.wrong.values()) },
];

// A name on two lines at most; all of it in its tooltip.
const clamped = (name) => make("span", { class: "clamp", title: name }, name);

function classCells(line, known) {
  const bar = make("i");
  bar.style.width = `${line.all ? (100 * line.ood) / line.all : 0}%`;
  const cells = [
    make("td", { class: "class" }, make("button", { class: "link", type: "button", onclick: () => showClass(line.label) }, clamped(line.name))),
    make("td", { class: "number" }, number.format(line.all)),
    make("td", { class: "number" }, number.format(line.ood)),
    make("td", { class: "number" }, percent(line.ood, line.all, 0), make("span", { class: "bar", "aria-hidden": "true" }, bar)),
    make("td", { class: "number" }, line.all ? shownScore(line.scores / line.all) : "–"),
  ];
  if (!known) return cells;
  const [worst] = [...line.wrong].sort((a, b) => b[1] - a[1]);
  return cells.concat([
    make("td", { class: "number" }, number.format(line.known)),
    make("td", { class: "number" }, percent(line.right, line.known, 0)),
    make("td", { class: "number" }, percent(line.kept, line.known, 0)),
    make("td", { class: "class" }, worst ? clamped(`${className(worst[0])} (${number.format(worst[1])})`) : "–"),
  ]);
}

function showClasses() {
  const lines = classLines();
  at("classes").hidden = !lines.length;
  const known = lines.some((line) => line.known);
  const columns = known ? [...COLUMNS, ...KNOWN] : COLUMNS;
  const value = (columns.find((column) => column.key === classSort.key) || COLUMNS[2]).value;
  lines.sort((a, b) => {
    const [left, right] = [value(a), value(b)];
    const order = typeof left === "string" ? left.localeCompare(right) : left - right;
    return (classSort.down ? -order : order) || a.label - b.label;
  });
  const heads = columns.map(({ key, title }, column) => {
    const sort = key === classSort.key ? (classSort.down ? "descending" : "ascending") : null;
    const press = () => {
      classSort.down = key === classSort.key ? !classSort.down : key !== "name";
      classSort.key = key;
      showClasses();
      at("classes-table").querySelectorAll("th button")[column].focus();
    };
    return make("th", { scope: "col", class: column && key !== "wrong" ? "number" : null, "aria-sort": sort }, make("button", { type: "button", onclick: press }, title));
  });
  const shown = allClasses ? lines : lines.slice(0, FEW);
  at("classes-table").replaceChildren(
    make("thead", {}, make("tr", {}, ...heads)),
    make("tbody", {}, ...shown.map((line) => make("tr", {}, ...classCells(line, known)))),
  );
  at("classes-hint").textContent = "By the class that each image is most like. Choose a class to see its images." +
    (known ? " Known images are those whose true class is given." : "");
  const more = at("classes-all");
  more.hidden = lines.length <= FEW;
  more.textContent = allClasses ? `Show only ${FEW}` : `Show all ${number.format(lines.length)} classes`;
}

function showClass(label) {
  state.class = label;
  state.page = 0;
  at("class").value = String(label);
  showImages();
  at("images").scrollIntoView();
  at("images").focus({ preventScroll: true });
}

let allFailures = false;

function showFailures() {
  if (!page.failed) return;
  at("failures").hidden = false;
  const listed = page.failures;
  at("failures-hint").textContent =
    `${many(page.failed, "image")} could not be read. ${page.failed === 1 ? "It has" : "They have"} no score and count${page.failed === 1 ? "s" : ""} neither as ID nor as OOD.` +
    (listed.length < page.failed ? ` The first ${number.format(listed.length)} are listed.` : "");
  const shown = allFailures ? listed : listed.slice(0, FEW);
  at("failures-table").replaceChildren(
    make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "Image"), make("th", { scope: "col" }, "Reason"))),
    make("tbody", {}, ...shown.map(([, path, reason]) => make("tr", {}, make("td", { class: "wide" }, path), make("td", { class: "wide soft" }, reason)))),
  );
  const more = at("failures-all");
  more.hidden = listed.length <= FEW;
  more.textContent = allFailures ? `Show only ${FEW}` : `Show all ${number.format(listed.length)}`;
}

function showFacts() {
  at("facts-list").replaceChildren(...page.facts.flatMap(([label, value]) => [make("dt", {}, label), make("dd", {}, value)]));
}
