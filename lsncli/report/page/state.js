// The data of the page, what is chosen on it, and what follows from both: counts, rates and formats.

const page = JSON.parse(document.getElementById("data").textContent);

function bytesOf(text) {
  const raw = atob(text);
  const bytes = new Uint8Array(raw.length);
  for (let at = 0; at < raw.length; at++) bytes[at] = raw.charCodeAt(at);
  return bytes.buffer;
}
const floats = (text) => (text === null ? null : new Float64Array(bytesOf(text)));
const integers = (text) => (text === null ? null : new Int32Array(bytesOf(text)));

for (const set of page.sets) {
  set.scores = floats(set.scores);
  set.predicted = integers(set.predicted);
  set.labels = integers(set.labels);
}
const calibration = page.calibration;
if (calibration) for (const key of ["scores", "positive", "negative"]) calibration[key] = floats(calibration[key]);
for (const curve of page.curves) {
  curve.accepted = floats(curve.accepted);
  curve.kept = floats(curve.kept);
}
const rows = page.rows;
rows.set = integers(rows.set);
rows.row = integers(rows.row);
rows.picture = integers(rows.picture);
rows.positive = floats(rows.positive);
rows.negative = floats(rows.negative);
rows.count = rows.set.length;
rows.score = Float64Array.from(rows.set, (set, at) => page.sets[set].scores[rows.row[at]]);
rows.predicted = Int32Array.from(rows.set, (set, at) => page.sets[set].predicted[rows.row[at]]);

// gamma is what the slider says; -1 stands for all sets and all classes. Images of unknown truth come first.
const state = { gamma: page.gamma, set: page.sets.findIndex((set) => set.kind === "input"), verdict: "all", sort: "low", class: -1, query: "", page: 0 };

const isOod = (score) => score < state.gamma;

// How many of ascending numbers lie below a value.
function below(rising, value) {
  let low = 0;
  let high = rising.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (rising[middle] < value) low = middle + 1;
    else high = middle;
  }
  return low;
}

// Images and OOD images of a set at the threshold of the slider.
function counted(set) {
  let ood = 0;
  for (const score of set.scores) if (isOod(score)) ood++;
  return { all: set.scores.length, ood };
}

function total(sets) {
  const sum = { all: 0, ood: 0, failed: 0 };
  for (const set of sets) {
    const one = counted(set);
    sum.all += one.all;
    sum.ood += one.ood;
    sum.failed += set.failed;
  }
  return sum;
}

const chosenSets = () => (state.set < 0 ? page.sets : [page.sets[state.set]]);
const ofKind = (kind) => page.sets.filter((set) => set.kind === kind);

// Fraction of held-out ID images that the threshold keeps; null where they are not known.
function keptOfCalibration(gamma) {
  if (!calibration) return null;
  return 1 - below(calibration.scores, gamma) / calibration.scores.length;
}

// Where scores lie on the histogram and the slider, from 0 to 1. Probabilities that crowd at one end of their
// range are spread out by their odds.
const EDGE = 1e-6;
const odds = (value) => Math.log(Math.max(EDGE, value) / Math.max(EDGE, 1 - value));
const onAxis = page.odds ? odds : (value) => value;
const offAxis = page.odds ? (value) => 1 / (1 + Math.exp(-value)) : (value) => value;
const [axisLow, axisHigh] = [onAxis(page.low), onAxis(page.high)];
const shareOf = (score) => (onAxis(score) - axisLow) / (axisHigh - axisLow);
const scoreAt = (share) => offAxis(axisLow + share * (axisHigh - axisLow));

// Scores of different methods differ by orders of magnitude: as many digits as tell a thousandth of the range.
const digits = Math.min(8, Math.max(2, (page.odds ? 5 : 3) - Math.floor(Math.log10(page.high - page.low))));
const number = new Intl.NumberFormat("en");
const shownScore = (value) => value.toFixed(digits).replace("-", "−");
const signed = (value) => (value < 0 ? "" : "+") + shownScore(value);
function percent(part, whole, places = 1) {
  return whole ? `${((100 * part) / whole).toFixed(places)}\u00a0%` : "–";
}
const many = (count, one, more = one + "s") => `${number.format(count)} ${count === 1 ? one : more}`;
const className = (label) => (label >= 0 ? page.classes[label] : "");

const at = (id) => document.getElementById(id);

// An element with attributes and children. Strings become text, never markup.
function make(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value !== null && value !== false) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}
